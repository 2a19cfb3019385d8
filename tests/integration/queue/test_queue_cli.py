"""``pgreact queue`` and the queue in ``pgreact status``: what they show, what they do, how they exit."""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pgreact.cli import support
from pgreact.queue import cli
from pgreact.queue.cli import queue
from pgreact.queue.views import STATES
from tests.command import Result, pgreact
from tests.harness import Database

Install = Callable[..., None]


@pytest.fixture
def base(each_database: Database, installed: Install) -> Database:
    """A database with a second lane, on the oldest and the newest server."""
    installed(each_database, {"lanes": {"mail": {"max_in_progress": 1}}})
    each_database.run(
        "insert into pgreact.task (name, queue) "
        "select name, 'default' from unnest('{proj.a,proj.b,proj.c,proj.d,b}'::text[]) name"
    )
    return each_database


@pytest.fixture
def filled(base: Database) -> Database:
    """The same, with a job in each state: 1 in progress, 2 behind it, 3 ready, 4 delayed, 5 dead."""
    base.run(
        "select pgreact.enqueue('proj.a', key => 'k', lane => 'mail', kwargs => '{\"user\": 1}')",
        "select pgreact.enqueue('proj.a', key => 'k') from generate_series(1, 1)",
        "select pgreact.claim(10)",
        "select pgreact.enqueue('proj.b', lane => 'mail', priority => 5)",
        "select pgreact.enqueue('proj.b', run_at => now() + interval '3 h')",
        "select pgreact.enqueue('proj.c')",
        "select pgreact.drop_job(5, 'expired', E'too\\n late')",
    )
    return base


def run(database: Database, *arguments: str) -> Result:
    return pgreact("queue", *arguments, dsn=database.dsn)


def states(database: Database) -> dict[int, str]:
    found: dict[int, str] = {}
    with database.connect() as connection:
        for table, state in (("queue", "state"), ("in_progress", "'in_progress'"), ("dead", "'dead'")):
            rows = connection.execute(f"select id, {state} from pgreact.{table}".encode())
            found |= dict(rows.fetchall())
    return found


# ---- help --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", queue.list_commands(None))  # type: ignore[arg-type]
def test_every_command_has_help_with_an_example(command: str) -> None:
    said = pgreact("queue", command, "--help")
    assert said.code == 0
    example = said.out.partition("Example:\n")[2].splitlines()[0]
    assert example.strip().startswith(f"pgreact queue {command} ")
    assert all(len(line) < 100 for line in said.out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("lst", "No such command 'lst'; did you mean \"list\"?"),
        ("list --state waiting", "'waiting' is not one of"),
        ("list --limit 0", "0 is not in the range"),
        ("show", "Missing argument 'ID'"),
        ("show x", "'x' is not a valid integer"),
        ("show 99999999999999999999", "is not in the range"),
        ("cancel", "Missing argument 'ID...'"),
        ("retry", "give the ids of jobs, or --dead"),
        ("retry 1 --dead", "give the ids of jobs, or --dead"),
        ("retry 1 --lane mail", "--lane and --task need --dead"),
        ("limit mail 0", "Invalid value for N: 0 is not a limit: write a number"),
        ("limit mail -- -1", "Invalid value for N: -1 is not a limit"),
        ("limit mail many", "Invalid value for N: 'many' is not a limit"),
    ],
)
def test_a_mistake_in_the_command_exits_2(arguments: str, message: str) -> None:
    said = pgreact("queue", *arguments.split())
    assert said.code == 2
    assert message in said.err


def test_without_schema_a_command_says_to_apply(database: Database) -> None:
    for arguments in ("list", "show 1", "retry 1", "cancel 1", "pause mail", "purge --yes"):
        said = run(database, *arguments.split())
        assert said.code == 1
        assert said.err.endswith('; run "pgreact apply" first\n')


@pytest.mark.parametrize(
    "arguments",
    [
        "list --lane mial",
        "retry --dead --lane mial",
        "pause mial",
        "resume mial",
        "limit mial 3",
        "purge --lane mial",
    ],
)
def test_an_unknown_lane_exits_2_and_names_the_nearest(filled: Database, arguments: str) -> None:
    before = states(filled)
    assert run(filled, *arguments.split()) == (2, "", 'pgreact: no lane "mial"; did you mean "mail"?\n')
    assert states(filled) == before


# ---- list and show -----------------------------------------------------------------------------------------


def test_jobs_are_listed_in_columns(filled: Database) -> None:
    said = run(filled, "list")
    assert (said.code, said.err) == (0, "")
    told = re.sub(r"\b\d+s\b", "0s", said.out)  # however long that took
    assert [line.split() for line in told.splitlines()] == [
        ["ID", "STATE", "LANE", "TASK", "ATTEMPT", "SINCE", "KEY"],
        ["1", "in_progress", "mail", "proj.a", "1/1", "0s", "k"],
        ["2", "blocked", "default", "proj.a", "0/1", "0s", "k"],
        ["3", "ready", "mail", "proj.b", "0/1", "0s"],
        ["4", "delayed", "default", "proj.b", "0/1", "in", "3h"],
        ["5", "dead", "default", "proj.c", "0/1", "0s", "too", "late"],
    ]
    head, first, *_rest = said.out.splitlines()
    assert head.index("LANE") == first.index("mail")


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ("--lane mail", [1, 3]),
        ("--task proj.b", [3, 4]),
        ("--task proj.b --lane default", [4]),
        ("--limit 2", [1, 2]),
        ("--task proj.none", []),
    ],
)
def test_a_list_can_be_narrowed(filled: Database, options: str, ids: list[int]) -> None:
    found = json.loads(run(filled, "list", "--json", *options.split()).out)
    assert [job["id"] for job in found] == ids


def test_each_state_can_be_listed(filled: Database) -> None:
    found = {state: json.loads(run(filled, "list", "--json", "--state", state).out) for state in STATES}
    assert {state: [job["id"] for job in jobs] for state, jobs in found.items()} == {
        "in_progress": [1],
        "blocked": [2],
        "ready": [3],
        "delayed": [4],
        "dead": [5],
    }
    assert all(job["state"] == state for state, jobs in found.items() for job in jobs)
    assert found["dead"][0]["error"] == "too\n late"


def test_list_reports_more_jobs_and_none(filled: Database) -> None:
    assert run(filled, "list", "--limit", "4").out.splitlines()[-1] == (
        "… and more: these are the first 4, see --limit"
    )
    assert "more" not in run(filled, "list", "--limit", "5").out
    assert run(filled, "list", "--task", "proj.none").out == "No jobs.\n"


def shown(database: Database, number: int) -> dict[str, str]:
    said = run(database, "show", str(number))
    assert said.code == 0
    return {line.split(maxsplit=1)[0]: line.split("  ")[-1].strip() for line in said.out.splitlines() if line}


def test_a_job_is_shown_wherever_it_is(filled: Database) -> None:
    assert {number: shown(filled, number)["state"] for number in range(1, 6)} == {
        1: "in_progress",
        2: "blocked",
        3: "ready",
        4: "delayed",
        5: "dead",
    }
    assert shown(filled, 1)["kwargs"] == '{"user": 1}'
    assert shown(filled, 5)["outcome"] == "expired"
    assert json.loads(run(filled, "show", "1", "--json").out)["job"]["kwargs"] == {"user": 1}


def test_the_messages_of_a_job_are_counted_from_the_first(filled: Database) -> None:
    assert shown(filled, 1)["publishes"] == "1"
    filled.run("select pgreact.unpublished()")
    assert shown(filled, 1)["publishes"] == "0"
    filled.run("select pgreact.claim(10)")
    assert shown(filled, 1)["publishes"] == "1"
    filled.run(
        "update pgreact.in_progress set lease_until = now() - interval '1 s'", "select pgreact.claim(10)"
    )
    assert shown(filled, 1)["publishes"] == "2"


def test_a_pause_is_shown_as_one_would_write_it(filled: Database) -> None:
    filled.run("update pgreact.queue set backoff = '1 h' where id = 3")
    assert shown(filled, 3)["backoff"] == "1h"
    assert shown(filled, 1)["backoff"] == "5s"
    assert json.loads(run(filled, "show", "3", "--json").out)["job"]["backoff"] == "1h"


def test_a_blocked_job_names_the_job_ahead(filled: Database) -> None:
    assert shown(filled, 2)["blocked_by"] == "1"
    filled.run("select pgreact.enqueue('proj.a', key => 'k')", "select pgreact.cancel(1)")
    assert json.loads(run(filled, "show", "6", "--json").out)["blocked_by"] == 2
    assert json.loads(run(filled, "show", "3", "--json").out)["blocked_by"] is None


def test_a_settled_job_is_shown_from_the_history(filled: Database) -> None:
    filled.run("update pgreact.queue_setting set retention = '1 day'")
    assert run(filled, "cancel", "3").code == 0
    said = run(filled, "show", "3")
    assert said.out.splitlines()[:2] == ["id     3", "state  settled"]
    assert "attempt 0: cancelled" in said.out.splitlines()
    found = json.loads(run(filled, "show", "3", "--json").out)
    assert (found["job"], found["history"][0]["outcome"]) == (None, "cancelled")


@pytest.mark.parametrize("command", ["show", "cancel", "retry"])
def test_an_unknown_job_is_a_clear_error(filled: Database, command: str) -> None:
    said = run(filled, command, "99")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("pgreact: no job 99: ")
    assert len(said.err.splitlines()) == 1


# ---- acting on jobs ----------------------------------------------------------------------------------------


def test_cancel_cancels_waiting_jobs_and_reports_the_others(filled: Database) -> None:
    filled.run("update pgreact.in_progress set started_at = now()")
    said = run(filled, "cancel", "1", "3", "3", "4", "5")
    assert said == (
        1,
        "1 already runs, and goes on; it gets no further attempt\ncancelled 3\ncancelled 4\n",
        "pgreact: job 5 is dead: nothing to cancel\n",
    )
    assert states(filled) == {1: "in_progress", 2: "blocked", 5: "dead"}


def test_retry_queues_the_dead_and_hastens_the_delayed(filled: Database) -> None:
    said = run(filled, "retry", "5", "4", "3")
    assert (said.code, said.out) == (1, "retried 5\nretried 4\n")
    assert said.err == "pgreact: job 3 is ready: only dead and delayed jobs can be retried\n"
    assert states(filled) == {1: "in_progress", 2: "blocked", 3: "ready", 4: "ready", 5: "ready"}


def die(database: Database, count: int, lane: str = "default", task: str = "proj.d") -> None:
    database.run(
        "insert into pgreact.dead (id, lane, task, args, kwargs, priority, attempt, max_attempts, backoff, "
        "options, enqueued_at, task_id, outcome) "
        f"select nextval('pgreact.queue_id_seq'), '{lane}', '{task}', '[]', '{{}}', 0, 5, 5, '5 s', "
        f"'{{}}', now(), gen_random_uuid(), 'failed' from generate_series(1, {count})"
    )


def test_all_dead_can_be_retried_in_parts(base: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "BATCH", 3)
    die(base, 7)
    die(base, 2, lane="mail")
    die(base, 1, task="proj.other")
    assert run(base, "retry", "--dead", "--lane", "mail").out == "retried 2 dead jobs\n"
    said = run(base, "retry", "--dead", "--task", "proj.d")
    assert said == (0, "retried 7 dead jobs\n", "retried 3 so far\nretried 6 so far\n")
    assert run(base, "retry", "--dead").out == "retried 1 dead jobs\n"
    assert run(base, "retry", "--dead").out == "retried 0 dead jobs\n"
    assert set(states(base).values()) == {"ready"}


# ---- lanes -------------------------------------------------------------------------------------------------


def lane(database: Database) -> tuple[Any, ...]:
    return tuple(
        database.value(f"select {column} from pgreact.lane where name = 'mail'")
        for column in ("paused", "max_in_progress")
    )


def test_a_lane_is_paused_resumed_and_limited(base: Database) -> None:
    assert run(base, "pause", "mail") == (0, "paused mail\n", "")
    assert lane(base) == (True, 1)
    base.run("select pgreact.enqueue('proj.a', lane => 'mail')")
    assert base.value("select pgreact.claim(5)->'claimed'") == 0
    assert run(base, "resume", "mail") == (0, "resumed mail\n", "")
    assert base.value("select pgreact.claim(5)->'claimed'") == 1
    assert run(base, "limit", "mail", "12") == (0, "limited mail to 12 in progress\n", "")
    assert lane(base) == (False, 12)
    assert run(base, "limit", "mail", "none") == (0, "removed the limit of mail\n", "")
    assert lane(base) == (False, None)


def test_a_limit_that_the_file_will_undo_is_reported(base: Database) -> None:
    Path("pgreact.toml").write_text("[lanes.mail]\nmax_in_progress = 1\n")
    assert run(base, "pause", "mail").err == ""
    assert run(base, "limit", "mail", "1").err == ""
    assert run(base, "limit", "mail", "2") == (
        0,
        "limited mail to 2 in progress\n",
        'note: pgreact.toml sets lanes.mail.max_in_progress, so the next "pgreact apply" undoes this\n',
    )


# ---- purge -------------------------------------------------------------------------------------------------


def test_purge_deletes_waiting_jobs_alone(filled: Database) -> None:
    assert run(filled, "purge", "--lane", "mail", "--yes") == (0, "deleted 1 jobs\n", "")
    assert states(filled) == {1: "in_progress", 2: "blocked", 4: "delayed", 5: "dead"}
    assert run(filled, "purge", "--yes").out == "deleted 2 jobs\n"
    assert states(filled) == {1: "in_progress", 5: "dead"}
    assert run(filled, "purge", "--yes").out == "Nothing to purge.\n"
    assert run(filled, "purge", "--dead", "--lane", "mail").out == "Nothing to purge.\n"
    assert run(filled, "purge", "--dead", "--yes").out == "deleted 1 jobs\n"
    assert states(filled) == {1: "in_progress"}


REMEDY = "give --yes to delete without a terminal"


def test_purge_asks_and_without_an_answer_deletes_nothing(filled: Database) -> None:
    before = states(filled)
    said = run(filled, "purge", "--lane", "mail")
    assert said == (
        2,
        "",
        f"pgreact: purge asks before it deletes 1 waiting jobs of lane mail: {REMEDY}\n",
    )
    assert states(filled) == before


@pytest.mark.parametrize(("answer", "left"), [("n", 3), ("y", 0)])
def test_purge_obeys_the_answer_to_its_question(
    filled: Database, monkeypatch: pytest.MonkeyPatch, answer: str, left: int
) -> None:
    monkeypatch.setattr(support, "_interactive", lambda: True)
    said = pgreact("queue", "purge", dsn=filled.dsn, typed=f"{answer}\n")
    assert said.code == (1 if left else 0)
    assert said.out.startswith("Delete 3 waiting jobs from ")
    assert filled.value("select count(*) from pgreact.queue") == left


def test_a_purge_in_parts_lets_the_next_of_a_key_go(base: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "BATCH", 4)
    base.run(
        "update pgreact.queue_setting set retention = '1 day'",
        "select pgreact.enqueue('proj.a', lane => 'mail', key => 'k' || g % 3) from generate_series(1, 10) g",
        "select pgreact.enqueue('proj.b', key => 'k' || g) from generate_series(0, 2) g",
        "update pgreact.lane set paused = true where name = 'mail'",
        "select pgreact.claim(10)",
    )
    assert [states(base)[number] for number in (11, 12, 13)] == ["blocked"] * 3
    said = run(base, "purge", "--lane", "mail", "--yes")
    assert (said.code, said.out) == (0, "deleted 10 jobs\n")
    assert states(base) == {11: "ready", 12: "ready", 13: "ready"}
    assert base.value("select count(*) from pgreact.history where outcome = 'cancelled'") == 10
    assert base.value("select pgreact.claim(10)->'claimed'") == 3


def test_purge_leaves_locked_jobs_and_blocks_none_of_their_keys(base: Database) -> None:
    base.run(
        "select pgreact.enqueue('proj.a', key => 'k')",
        "select pgreact.enqueue('proj.b', lane => 'mail', key => 'k')",
        "select pgreact.enqueue('proj.c', lane => 'mail')",
        "select pgreact.enqueue('proj.d', lane => 'mail')",
    )
    with base.connect() as other, other.transaction():
        other.execute("select from pgreact.queue where id in (1, 3) for update")
        assert run(base, "purge", "--lane", "mail", "--yes").out == "deleted 2 jobs\n"
    assert states(base) == {1: "ready", 3: "ready"}
    assert run(base, "purge", "--lane", "mail", "--yes").out == "deleted 1 jobs\n"
    assert base.value("select pgreact.claim(10)->'claimed'") == 1


def test_two_cancels_of_neighbours_at_once_unblock_the_third(base: Database) -> None:
    base.run(
        "select pgreact.enqueue('proj.a', key => 'k') from generate_series(1, 3)",
        "update pgreact.queue set priority = 9 where id = 3",  # so that a claim comes to it first
        "update pgreact.queue_setting set max_in_progress = 0",
        "update pgreact.queue set state = 'blocked' where id = 3",
    )
    cancelled = "select pgreact.cancel({})"
    with base.connect(autocommit=False) as first, ThreadPoolExecutor(1) as pool:
        first.execute(cancelled.format(1))
        second = pool.submit(base.value, cancelled.format(2))
        base.until("select exists (select from pg_locks where not granted)")
        first.commit()
        assert second.result(20) == "cancelled"
    assert states(base) == {3: "ready"}


def test_purges_beside_claims_leave_no_key_blocked(base: Database) -> None:
    """Whatever comes between: in the end the jobs of the other lane are claimed."""
    base.run(
        "select pgreact.enqueue('a', lane => 'mail', key => 'k' || g % 40) from generate_series(1, 999) g",
        "select pgreact.enqueue('b', key => 'k' || g % 40) from generate_series(1, 40) g",
        "update pgreact.lane set paused = true where name = 'mail'",
    )

    def claim(_number: int) -> None:
        with base.connect() as connection:
            for _ in range(40):
                connection.execute("select pgreact.claim(20)")

    def delete(_number: int) -> None:
        with base.connect() as connection:
            while connection.execute("select from pgreact.queue where lane = 'mail' limit 1").fetchall():
                connection.execute("select pgreact.purge('mail', batch => 37)")

    with ThreadPoolExecutor(3) as pool:
        work = [pool.submit(claim, 0), pool.submit(delete, 0), pool.submit(delete, 1)]
        for done in work:
            done.result(60)
    base.value("select pgreact.claim(100)")
    assert set(states(base).values()) == {"in_progress"}
    assert len(states(base)) == 40


# ---- status ------------------------------------------------------------------------------------------------


def queue_lines(database: Database) -> list[str]:
    out = pgreact("status", dsn=database.dsn).out
    return out[out.index("queue    ") :].partition("\n\n")[0].splitlines()


def test_no_terminal_obeys_the_text_of_a_job(filled: Database) -> None:
    filled.run(
        "insert into pgreact.queue (task, key, error) "
        "values (e'a\\x1b[31m\\u009b2J\\u202eb', e'k\\x07', e'\\x1b]0;')"
    )
    job = filled.value("select max(id) from pgreact.queue")
    for arguments in (("queue", "list"), ("queue", "show", str(job)), ("queue", "show", str(job), "--json")):
        shown = pgreact(*arguments, dsn=filled.dsn).out
        assert "a\\u001b[31m\\u009b2J\\u202eb" in shown
        assert not set(shown) & set("\x07\x1b\x9b\u202e")


def test_status_shows_the_lanes(filled: Database) -> None:
    filled.run(
        "update pgreact.queue set run_at = now() - interval '5 min' where id = 3",
        "update pgreact.queue set enqueued_at = run_at where id = 3",
        "update pgreact.lane set paused = true where name = 'mail'",
        "update pgreact.lane_state set recent = 60, recent_at = now() where lane = 'mail'",
    )
    head, columns, default, mail = queue_lines(filled)
    assert head == "queue    1 ready, 1 delayed, 1 blocked; 1/- in progress; 1 dead"
    assert columns.split("  ")[1:2] == ["lane"]
    assert default.split() == ["default", "0", "1", "1", "-", "0/-", "0.00"]
    assert mail.split()[:6] == ["mail", "1", "0", "0", "5m", "1/1"]
    assert mail.endswith("PAUSED")
    assert float(mail.split()[6]) == pytest.approx(1, abs=0.1)

    found = json.loads(pgreact("status", "--json", dsn=filled.dsn).out)["queue"]
    assert (found["in_progress"], found["max_in_progress"], found["dead"]) == (1, None, 1)
    assert [
        found["lanes"][1][key] for key in ("name", "ready", "in_progress", "max_in_progress", "paused")
    ] == [
        "mail",
        1,
        1,
        1,
        True,
    ]
    assert found["lanes"][1]["oldest_s"] == pytest.approx(300, abs=20)
    assert found["lanes"][0]["oldest_s"] is None


def test_the_built_in_route_is_no_route_of_the_users(base: Database) -> None:
    found = json.loads(pgreact("status", "--json", dsn=base.dsn).out)
    assert found["routes"] == []
    assert found["queue"]["dispatch"]["name"] == "pgreact.queue"
    assert {row["table"] for row in found["queue"]["triggers"]} >= {"pgreact.queue", "pgreact.in_progress"}
    assert "route " not in pgreact("status", dsn=base.dsn).out


def test_a_lane_that_is_gone_is_shown_as_long_as_it_has_jobs(filled: Database) -> None:
    filled.run("delete from pgreact.lane where name = 'mail'")
    assert queue_lines(filled)[3].endswith("deleted lane: no limits")
    assert [job["id"] for job in json.loads(run(filled, "list", "--lane", "mail", "--json").out)] == [1, 3]
    assert run(filled, "purge", "--lane", "mail", "--yes").out == "deleted 1 jobs\n"
    assert run(filled, "cancel", "1").code == 0
    assert len(queue_lines(filled)) == 3


def healthy(database: Database) -> bool:
    from tests.integration.cli.test_cli import daemons

    with daemons(database):
        return pgreact("status", dsn=database.dsn).code == 0


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("drop trigger pgreact_0_insert on pgreact.queue",
         'insert on pgreact.queue: trigger MISSING: run "pgreact apply"'),
        ("insert into pgreact.flight (route_id, error) values (0, 'broker says no')",
         "FAILING: broker says no"),
        ("drop trigger {} on orders",
         "insert on public.orders enqueues proj.t: trigger MISSING: call pgreact.attach again"),
        ("alter table orders disable trigger {}", "trigger DISABLED"),
        ("alter table orders drop constraint orders_pkey", "trigger WITHOUT A PRIMARY KEY"),
        ("alter table orders rename id to number", "trigger WRONG KEY OR LANE"),
        ("drop table orders", "trigger TABLE DROPPED"),
    ],
)  # fmt: skip
def test_status_is_not_healthy_when_the_queue_is_not(base: Database, harm: str, said: str) -> None:
    base.run(
        "create table orders (id int primary key)",
        "select pgreact.attach('orders', enqueue => 'proj.t', events => '{insert}')",
    )
    assert healthy(base)
    base.run(harm.format(base.value("select pgreact.outbox_trigger('proj.t', 'insert')")))
    assert not healthy(base)
    assert said in pgreact("status", dsn=base.dsn).out
