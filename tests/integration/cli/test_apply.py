"""``pgreact apply`` and ``uninstall``."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from pgreact import apply as plans
from pgreact.postgres import migrations
from pgreact.postgres.connect import connect
from pgreact.settings import load
from tests.catalog import catalog
from tests.command import apply, pgreact, write
from tests.harness import Database
from tests.signal_listener import SignalListener

Install = Callable[..., None]

FILE = """
[routes.dispatch]
task = "proj.dispatch"
options = { queue = "q", priority = 9, kwargs = { a = [1, "ä"] } }
ready = "select exists (select from job_queue)"
tables = [
  { table = "job_queue", on = ["insert", "truncate"] },
  { table = "public.in_progress", on = ["insert", "delete"] },
  { table = "jobs", on = ["insert", "update"], when = "new.status = 'ready'" },
]
[routes.scale]
task = "proj.scale"
window = "1s"
tables = [{ table = "job_queue", on = ["insert"] }]
"""

PLAN = """\
+ schema pgreact: migration 0001_wakeups
+ schema pgreact: migration 0002_queue
+ schema pgreact: migration 0003_timetable
+ schema pgreact: migration 0004_operate
+ schema pgreact: functions
+ route dispatch: calls proj.dispatch
+ route dispatch: insert, truncate on public.job_queue
+ route dispatch: insert, delete on public.in_progress
+ route dispatch: insert, update on public.jobs when new.status = 'ready'
+ route scale: calls proj.scale
+ route scale: insert on public.job_queue
"""
SCHEMA = len(migrations.migrations()) + 1  # steps: the functions are the last

USERS = """tgrelid not in (select oid from pg_class where relnamespace = 'pgreact'::regnamespace)"""

TABLES = (
    "create table job_queue (id int)",
    "create table in_progress (id int)",
    "create table jobs (id int, status text) partition by range (id)",
    "create table jobs_1 partition of jobs for values from (0) to (100)",
)


@pytest.fixture
def ours(database: Database) -> Database:
    """A database with the tables that ``FILE`` watches, and that file."""
    database.run(*TABLES)
    write(FILE)
    return database


@pytest.fixture
def applied(ours: Database, installed: Install) -> Database:
    """The same, once it was applied."""
    with ours.connect() as connection:
        list(plans.apply(connection, load(None), 10.0, lambda _line: None))
    return ours


# ---- the plan ----------------------------------------------------------------------------------------------


def test_the_plan_is_printed_like_a_diff_and_twice_changes_nothing(ours: Database) -> None:
    assert apply(ours) == PLAN
    before = catalog(ours, rows=True)
    assert apply(ours) == "Nothing to change.\n"
    assert apply(ours, "--dry-run") == "Nothing to change.\n"
    assert json.loads(apply(ours, "--json")) == []
    assert catalog(ours, rows=True) == before


def test_a_dry_run_prints_the_same_plan_and_changes_nothing(ours: Database) -> None:
    before = catalog(ours)
    assert apply(ours, "--dry-run") == PLAN
    shown = json.loads(apply(ours, "--dry-run", "--json"))
    assert [f"{step['sign']} {step['what']}" for step in shown] == PLAN.splitlines()
    assert catalog(ours) == before


def test_a_changed_route_shows_old_and_new(applied: Database) -> None:
    write(FILE.replace('"1s"', '"1.5s"').replace("priority = 9", "priority = 8").replace("[1, ", "[2, "))
    assert apply(applied) == (
        '~ route dispatch: options {"queue": "q", "kwargs": {"a": [1, "ä"]}, "priority": 9} → '
        '{"queue": "q", "priority": 8, "kwargs": {"a": [2, "ä"]}}\n'
        "~ route scale: window 1s → 1.5s\n"
    )
    assert apply(applied) == "Nothing to change.\n"


@pytest.mark.parametrize(
    ("key", "value"),
    [("window", '"0.1234567s"'), ("window", 0), ("sweep", 0), ("expires", '"0s"'), ("countdown", '"30d"'),
     ("expires", "86400.000001"), ("options", "{ a = 1.0, b = 1e22, c = 2020-01-01, d = true, e = [] }"),
     ("ready", "\"select true -- 100% 'ä'\"")],
)  # fmt: skip
def test_every_value_converges(database: Database, key: str, value: object) -> None:
    write(f'[routes.dispatch]\ntask = "t"\n{key} = {value}')
    apply(database)
    assert apply(database) == "Nothing to change.\n"


def test_columns_that_must_change_are_shown_and_converge(applied: Database) -> None:
    entry = '{ table = "jobs", on = ["insert", "update"], when = "new.status = \'ready\'"'
    write(FILE.replace(entry, f'{entry}, changed = ["status"]'))
    assert apply(applied) == (
        "~ route dispatch: update on public.jobs when new.status = 'ready', changed status\n"
    )
    assert apply(applied) == "Nothing to change.\n"
    write(FILE.replace(entry, f'{entry}, changed = ["id", "status"]'))
    assert "changed id, status\n" in apply(applied)
    write(FILE.replace(entry, f'{entry}, changed = ["idd"]'))
    said = pgreact("apply", "--dry-run", dsn=applied.dsn)
    assert (said.code, said.out) == (2, "")
    assert 'has no column idd, which "changed" names; It has id, status; nothing of' in said.err
    write(FILE)
    assert apply(applied) == "~ route dispatch: update on public.jobs when new.status = 'ready'\n"


def test_a_changed_condition_and_changed_events_are_mended(applied: Database) -> None:
    write(
        FILE.replace("new.status = 'ready'", "new.id > 5").replace(
            '["insert", "truncate"]', '["insert", "delete"]'
        )
    )
    assert apply(applied) == (
        "+ route dispatch: delete on public.job_queue\n"
        "~ route dispatch: insert, update on public.jobs when new.id > 5\n"
        "- route dispatch: truncate on public.job_queue\n"
    )
    assert apply(applied) == "Nothing to change.\n"
    with SignalListener(applied) as ear, applied.connect() as writer:
        assert ear.after(writer, "truncate job_queue", "insert into jobs values (6)") == {
            "truncate job_queue": [],
            "insert into jobs values (6)": ["dispatch"],
        }


def test_an_hour_is_written_alike_for_routes_the_queue_and_schedules(database: Database) -> None:
    hour = (
        '[routes.dispatch]\ntask = "t"\n{0} = "{1}"\n[queue]\nlease = "{1}"\n'
        '[lanes.mail]\nrate = "2/h"\n[schedules.report]\ntask = "t"\nevery = "{1}"\ngrace = "{1}"\n'
    )
    write(hour.format("window", "3600s"))
    assert apply(database).splitlines()[SCHEMA:] == [
        "+ route dispatch: calls t",
        "~ queue: lease 1m → 1h",
        "+ lane mail: rate 2/h",
        "+ schedule report: every 1h runs t",
    ]
    write(hour.format("window", "2h").replace('window = "2h"', 'sweep = "1h"'))
    assert apply(database) == (
        "~ route dispatch: window 1h → 100ms, sweep 1m → 1h\n"
        "~ queue: lease 1h → 2h\n"
        "~ schedule report: every 1h → 2h, grace 1h → 2h\n"
    )
    write(hour.format("sweep", "60m"))
    assert apply(database) == "~ queue: lease 2h → 1h\n~ schedule report: every 2h → 1h, grace 2h → 1h\n"


# ---- plain SQL ---------------------------------------------------------------------------------------------


def test_the_printed_sql_makes_the_same_database(ours: Database, postgres: object) -> None:
    script = pgreact("apply", "--sql", dsn="host=/nowhere")
    assert script.code == 0
    ours.run(script.out)
    by_script = catalog(ours, rows=True)
    assert apply(ours) == "Nothing to change.\n"
    ours.run(script.out.split("-- functions", 1)[1])  # a later script repeats the functions
    assert catalog(ours, rows=True) == by_script
    assert pgreact("uninstall", "--yes", dsn=ours.dsn).code == 0
    apply(ours)
    assert catalog(ours, rows=True) == by_script


def test_since_leaves_out_what_has_run(applied: Database) -> None:
    count = len(migrations.migrations())
    rest = pgreact("apply", "--sql", "--since", str(count))
    assert "create schema" not in rest.out
    write(FILE.replace("1s", "2s"))
    applied.run(pgreact("apply", "--sql", "--since", str(count)).out)
    assert apply(applied) == "Nothing to change.\n"
    assert pgreact("apply", "--sql", "--since", str(count + 1)).err == (
        f"pgreact: --since {count + 1}: the last migration is {count}\n"
    )
    assert pgreact("apply", "--sql", "--since", "-1").code == 2
    assert pgreact("apply", "--since", "1").code == 2


# ---- what the file names, and what it does not -------------------------------------------------------------


def test_objects_that_the_file_no_longer_names_are_detached(applied: Database) -> None:
    write('[routes.scale]\ntask = "proj.scale"\nwindow = "1s"\n')
    assert apply(applied) == (
        "- route dispatch, with its triggers\n- route scale: insert on public.job_queue\n"
    )
    assert applied.value(f"select count(*) from pg_trigger where tgname ~ '^pgreact_' and {USERS}") == 0
    write("")
    assert apply(applied) == "- route scale, with its triggers\n"
    assert apply(applied) == "Nothing to change.\n"


def test_objects_made_in_sql_survive(applied: Database) -> None:
    applied.run(
        "insert into pgreact.route (name, task) values ('own', 'proj.own')",
        "select pgreact.attach('job_queue', 'own', '{insert}')",
        "select pgreact.attach('in_progress', 'scale', '{insert}')",
    )
    assert apply(applied) == "Nothing to change.\n"
    write(FILE.replace('tables = [{ table = "job_queue", on = ["insert"] }]', ""))
    assert apply(applied) == "- route scale: insert on public.job_queue\n"
    assert applied.value(
        "select array_agg(relation::text order by relation::text) from pgreact.watched "
        "where origin = 'sql' and route_id <> 0"
    ) == [
        "in_progress",
        "job_queue",
    ]


def test_the_file_adopts_objects_made_in_sql(applied: Database) -> None:
    applied.run(
        "insert into pgreact.route (name, task) values ('own', 'proj.own')",
        "select pgreact.attach('job_queue', 'own', '{insert}')",
    )
    oid = "select max(oid::bigint) from pg_trigger where tgrelid = 'job_queue'::regclass"
    before = applied.value(oid)
    write(FILE + '[routes.own]\ntask = "proj.own"\ntables = [{ table = "job_queue", on = ["insert"] }]')
    assert apply(applied) == ("~ route own: origin sql → config\n~ route own: insert on public.job_queue\n")
    assert applied.value(oid) == before
    write(FILE)
    assert apply(applied) == "- route own, with its triggers\n"


@pytest.mark.parametrize(
    ("harm", "mended"),
    [
        ("drop trigger pgreact_1_insert on job_queue", "~ route dispatch: insert on public.job_queue"),
        ("alter table job_queue disable trigger all", "~ route dispatch: insert, truncate on"),
        ("alter table jobs_1 disable trigger user", "~ route dispatch: insert, update on public.jobs when"),
        ("update pgreact.route set task = 'x' where id = 1", '~ route dispatch: task x → proj.dispatch'),
        ("update pgreact.watched set condition = 'x' where event = 'update' and route_id > 0",
         "~ route dispatch: update on"),
        ("select pgreact.detach('in_progress', 'dispatch')", "+ route dispatch: insert, delete on"),
        ("delete from pgreact.route where id = 2", "+ route scale: calls proj.scale"),
        ("delete from pgreact.migration where name = 'functions'", "+ schema pgreact: functions"),
        ("alter table in_progress rename to x; create table in_progress (id int)",
         "+ route dispatch: insert, delete on public.in_progress"),
        ("drop table in_progress; create table in_progress (id int)",
         "+ route dispatch: insert, delete on public.in_progress"),
    ],
)  # fmt: skip
def test_drift_is_mended(applied: Database, harm: str, mended: str) -> None:
    before = catalog(applied, rows=True)
    applied.run(*harm.split("; "))
    out = apply(applied)
    assert mended in out
    assert apply(applied) == "Nothing to change.\n"
    applied.run("drop table if exists x")
    after = catalog(applied, rows=True)
    assert {part: after[part] for part in ("triggers", "routes", "watched")} == {
        part: before[part] for part in ("triggers", "routes", "watched")
    } or "scale" in mended  # which has a new id, hence a new trigger name


# ---- several at once, and others at work -------------------------------------------------------------------


@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
def test_concurrent_applies_all_succeed_and_converge(ours: Database, isolation: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(ours.dsn)["dbname"]
    ours.run(f"alter database {name} set default_transaction_isolation = '{isolation}'")
    settings = load(None)
    start = threading.Barrier(8)

    def one(_number: int) -> list[str]:
        with connect(ours.dsn) as connection:
            start.wait(10)
            return [str(step) for step in plans.apply(connection, settings, 60.0, lambda _line: None)]

    with ThreadPoolExecutor(8) as pool:
        steps = [step for taken in pool.map(one, range(8)) for step in taken]
    assert sorted(steps) == sorted(PLAN.splitlines())  # each step once, in whichever session
    assert apply(ours) == "Nothing to change.\n"


def test_apply_lets_writers_pass_while_it_waits_for_a_long_transaction(ours: Database) -> None:
    waits = threading.Event()
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        waits.set()

    def run() -> list[plans.Change]:
        with ours.connect() as connection:
            return list(plans.apply(connection, load(None), 60.0, tell))

    with ours.connect() as long, ThreadPoolExecutor(1) as pool:
        with long.transaction():
            long.execute("insert into in_progress values (1)")
            applying = pool.submit(run)
            assert waits.wait(20)
            with ours.connect() as writer:
                writer.execute("set lock_timeout = '2s'")
                for _ in range(5):
                    ours.until(
                        "select exists (select from pg_stat_activity where wait_event_type = 'Lock' "
                        "and query like 'select pgreact.attach%in_progress%')"
                    )
                    writer.execute("insert into in_progress values (2)")
            assert not applying.done()
        assert len(applying.result(30)) == len(PLAN.splitlines())
    assert told == ["waiting for a lock: + route dispatch: insert, delete on public.in_progress"]
    assert apply(ours) == "Nothing to change.\n"


def test_apply_gives_up_when_a_lock_cannot_be_had(ours: Database) -> None:
    with ours.connect() as long, long.transaction():
        long.execute("insert into in_progress values (1)")
        said = pgreact("apply", "--wait", "500ms", dsn=ours.dsn)
    assert said.code == 1
    assert said.out.splitlines() == PLAN.splitlines()[:SCHEMA]  # nothing of the route
    step = "+ route dispatch: insert, delete on public.in_progress"
    waiting, gave_up = said.err.splitlines()
    assert waiting == f"waiting for a lock: {step}"
    assert gave_up.startswith(f"pgreact: {step}: no lock in 500ms: a long transaction holds it;")
    assert apply(ours).splitlines() == PLAN.splitlines()[SCHEMA:]


def test_apply_waits_for_another_apply(ours: Database) -> None:
    with ours.connect() as other, other.transaction():
        other.execute(migrations.APPLY_LOCK)
        said = pgreact("apply", "--wait", "500ms", dsn=ours.dsn)
    assert said.code == 1
    assert said.err.startswith("waiting for a lock: another pgreact apply\n")


def test_a_step_that_something_undoes_is_not_repeated_for_ever(applied: Database) -> None:
    applied.run(
        "create function undo() returns trigger language plpgsql as "
        "$$begin new.task := 'undone'; return new; end$$",
        "create trigger undo before insert or update on pgreact.route for each row execute function undo()",
    )
    write(FILE.replace("proj.scale", "proj.other"))
    said = pgreact("apply", dsn=applied.dsn)
    assert said.code == 1
    assert "something undoes it" in said.err


# ---- what can be wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"public.in_progress"', '"public.in_progres"',
         'tables[1].table: no table "public.in_progres" in the database; did you mean "public.in_progress"?'),
        ('"jobs"', '"job"', 'tables[2].table: no table "job" in the database; did you mean "public.jobs"?'),
        ('"jobs"', '"other.jobs"', 'no table "other.jobs" in the database; did you mean "public.jobs"?'),
        ('"jobs"', "'\"jobs'", 'tables[2].table: '),
        ('"jobs"', '"a.b.c.d"', 'tables[2].table: "a.b.c.d" is not a table name: improper'),
        ('"public.in_progress"', '"public.job_queue"',
         "routes.dispatch.tables[1]: insert of public.job_queue is named twice for this route"),
        ("from job_queue)", "from jobqueue)", 'routes.dispatch.ready: relation "jobqueue" does not exist'),
        ("select exists (select from job_queue)", "select 1; drop table jobs",
         "routes.dispatch.ready: cannot insert multiple commands"),
        ("select exists (select from job_queue)", "vacuum", 'ready: syntax error at or near "vacuum"'),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_named_before_anything_changes(
    ours: Database, old: str, new: str, message: str
) -> None:
    write(FILE.replace(old, new, 1))
    before = catalog(ours)
    for options in ((), ("--dry-run",)):
        said = pgreact("apply", *options, dsn=ours.dsn)
        assert (said.code, said.out) == (2, "")
        assert said.err.startswith("pgreact: pgreact.toml: routes.dispatch")
        assert message in said.err
        assert catalog(ours) == before


UPDATE = "route dispatch: insert, update on public.jobs when new."


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("new.status =", "new.state =", "state does not exist; Write it as the columns are named now: new."),
        ("new.status =", "new.state =", f"{UPDATE}state = 'ready': "),
        ('"insert", "update"]', '"delete"]', "cannot reference NEW values"),
        ("new.status = 'ready'", "new.status = ", f"{UPDATE}status = : "),
        ("new.status = 'ready'", "new.id = 'x'", "invalid input syntax for type integer"),
        ('"jobs"', '"seen"', "on public.seen when new.status = 'ready': "),
        ("[routes.scale]", '[[outbox]]\ntable = "jobs"\nenqueue = "t"\non = ["insert"]\n[routes.scale]',
         "outbox: insert on public.jobs enqueues t: public.jobs has no primary key, so a job cannot"),
    ],
)  # fmt: skip
def test_a_refusal_of_postgresql_is_shown_in_its_words(
    ours: Database, old: str, new: str, message: str
) -> None:
    ours.run("create view seen as select * from jobs")
    write(FILE.replace(old, new, 1))
    before = catalog(ours)
    said = pgreact("apply", "--dry-run", dsn=ours.dsn)
    assert (said.code, said.out) == (1 if "primary key" in message else 2, "")
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert catalog(ours) == before
    done = pgreact("apply", dsn=ours.dsn)
    assert (done.code, done.err) == (said.code, said.err)


def test_a_dry_run_names_each_route_that_would_fail(ours: Database) -> None:
    watch = '{{ table = "job_queue", on = ["insert"], when = "new.{}" }}'
    routes = "".join(
        f'[routes.{name}]\ntask = "t"\ntables = [{watch.format(name)}]\n' for name in ("a", "id", "b")
    )
    write(routes)
    said = pgreact("apply", "--dry-run", dsn=ours.dsn)
    assert (said.code, said.out) == (2, "")
    assert [line.split(": ")[1] for line in said.err.splitlines()] == ["route a", "route id", "route b"]
    assert "must be type boolean, not type integer" in said.err


def test_a_route_is_applied_as_a_whole_or_not_at_all(applied: Database) -> None:
    before = catalog(applied, rows=True)
    write(
        FILE.replace("priority = 9", "priority = 8")
        .replace('["insert", "delete"] }', '["insert"] }')
        .replace("new.status =", "new.state =")
        .replace('window = "1s"', 'window = "2s"')
    )
    said = pgreact("apply", dsn=applied.dsn)
    assert (said.code, said.out) == (2, "")
    assert said.err.endswith("; nothing of route dispatch was changed\n")
    assert catalog(applied, rows=True) == before


def test_a_right_that_is_missing_is_found_by_a_dry_run(ours: Database) -> None:
    name = psycopg.conninfo.conninfo_to_dict(ours.dsn)["dbname"]
    role = f"applier_{name}"
    ours.run(f"create role {role} {ours.login}", f"grant create on database {name} to {role}")
    ours.run(*(f"alter table {table} owner to {role}" for table in ("job_queue", "jobs")))
    try:
        dsn = psycopg.conninfo.make_conninfo(ours.dsn, user=role)
        for options in (("--dry-run",), ()):
            said = pgreact("apply", *options, dsn=dsn)
            assert said.code == 1
            assert "route dispatch: insert, delete on public.in_progress: permission denied" in said.err
            assert said.err.endswith("; nothing of route dispatch was changed\n")
    finally:
        ours.run(
            "drop schema if exists pgreact cascade", f"drop owned by {role} cascade", f"drop role {role}"
        )


def test_a_dry_run_names_steps_that_a_long_transaction_blocks(applied: Database) -> None:
    write(
        FILE.replace(
            '"public.in_progress", on = ["insert", "delete"]', '"public.in_progress", on = ["update"]'
        )
    )
    apply = pgreact("apply", "--check", dsn=applied.dsn).out
    with applied.connect() as long, long.transaction():
        long.execute("insert into in_progress values (1)")
        said = pgreact("apply", "--dry-run", dsn=applied.dsn)
    assert (said.code, said.out) == (0, apply)
    assert said.err == (
        "not tried: + route dispatch: update on public.in_progress: a long transaction holds a lock\n"
    )


FIRST = '[routes.first]\ntask = "t"\ntables = [{ table = "job_queue", on = ["insert"] }]\n'


def test_a_dry_run_lets_writers_pass(applied: Database) -> None:
    """What locks a table of users is undone before the next is tried."""
    write(FIRST + FILE.replace("'ready'", "'x'").replace('["insert"] }]', '["delete"] }]'))
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        with applied.connect() as writer:
            writer.execute("set lock_timeout = '5s'")
            writer.execute("insert into job_queue values (1)")

    with applied.connect() as long, connect(applied.dsn) as connection:
        long.execute("begin")
        long.execute("insert into jobs values (1)")
        steps = plans.dry_run(connection, load(None), tell)
        long.execute("rollback")
    assert len(told) == 1
    assert [str(step).split(":")[0] for step in steps] == [
        *("+ route first", "+ route first"), "~ route dispatch", "+ route scale", "- route scale"
    ]  # fmt: skip


# ---- for CI, and for other tools ---------------------------------------------------------------------------


def test_check_exits_1_where_database_and_file_differ(applied: Database) -> None:
    assert pgreact("apply", "--check", dsn=applied.dsn) == (0, "Nothing to change.\n", "")
    applied.run("drop trigger pgreact_2_insert on job_queue")
    before = catalog(applied, rows=True)
    for _ in range(2):
        assert pgreact("apply", "--check", dsn=applied.dsn) == (
            1, "~ route scale: insert on public.job_queue\n", ""
        )  # fmt: skip
    said = pgreact("apply", "--check", "--json", dsn=applied.dsn)
    assert (said.code, json.loads(said.out)) == (
        1,
        [{"sign": "~", "what": "route scale: insert on public.job_queue"}],
    )
    assert catalog(applied, rows=True) == before


@pytest.mark.parametrize(
    "options", ["--check --dry-run", "--check --sql", "--dry-run --sql", "--delta", "--sql --delta --since 1"]
)
def test_options_that_do_not_go_together_are_refused(options: str) -> None:
    assert pgreact("apply", *options.split()).code == 2


MORE = "select pgreact.attach('in_progress', 'scale', '{update}')"


@pytest.mark.parametrize(
    "harm",
    [
        "",
        "drop trigger pgreact_1_insert on job_queue",
        "delete from pgreact.migration where name = 'functions'; drop trigger pgreact_1_insert on job_queue",
        f"{MORE}; update pgreact.watched set origin = 'config' where route_id > 0",
        "drop table in_progress; create table in_progress (id int)",
        "insert into pgreact.lane (name, origin) values ('mail', 'config')",
        "drop schema pgreact cascade",
    ],
)
def test_the_delta_as_sql_brings_a_database_to_the_file(applied: Database, harm: str) -> None:
    if harm:
        applied.run(*harm.split("; "))
    said = pgreact("apply", "--sql", "--delta", dsn=applied.dsn)
    assert (said.code, said.err, bool(said.out)) == (0, "", bool(harm))
    if "schema" not in harm and "functions" not in harm:
        assert "create or replace function" not in said.out
    if harm:
        applied.run(said.out)
    assert apply(applied) == "Nothing to change.\n"


@pytest.mark.parametrize("there", [True, False])
def test_uninstall_as_sql_leaves_the_database_as_it_was(ours: Database, there: bool) -> None:
    before = catalog(ours)
    if there:
        apply(ours)
    said = pgreact("uninstall", "--sql")
    assert (said.code, said.err) == (0, "")
    ours.run(said.out)
    assert catalog(ours) == before
    ours.run("create schema pgreact")
    with pytest.raises(psycopg.errors.RaiseException, match="that pgreact did not make"):
        ours.run(said.out)


SHOP = """
import celery
app = celery.Celery("shop", broker="memory://", include=["shop_tasks"])
"""
TASKS = """
from shop import app
def work(): pass
app.task(name="proj.dispatch")(work)
app.task(name="proj.scale")(work)
"""


@pytest.mark.parametrize(
    ("tasks", "change", "code", "err"),
    [
        (TASKS, "", 0, ""),
        (TASKS, "proj.dispach", 2,
         'routes.dispatch.task: no task "proj.dispach" in shop; did you mean "proj.dispatch"?\n'),
        ("import missing_module", "", 0,
         "shop: its modules fail: ModuleNotFoundError: No module named 'missing_module'\n"),
    ],
)  # fmt: skip
def test_a_dry_run_looks_for_the_tasks_in_the_application(
    ours: Database, tasks: str, change: str, code: int, err: str
) -> None:
    write('app = "shop"\n' + (FILE.replace("proj.dispatch", change) if change else FILE))
    Path("shop.py").write_text(SHOP, encoding="utf-8")
    Path("shop_tasks.py").write_text(tasks, encoding="utf-8")
    said = subprocess.run(
        [sys.executable, "-m", "pgreact", "apply", "--dry-run"],
        env={**os.environ, "PGREACT_DSN": ours.dsn}, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert (said.returncode, len(said.stderr.splitlines())) == (code, bool(err))
    assert said.stderr.endswith(err)
    assert said.stderr.startswith("pgreact: pgreact.toml: " if code else "warning: " if err else "")
    assert "+ route scale: calls proj.scale\n" in said.stdout


def test_a_foreign_schema_named_pgreact_is_left_alone(ours: Database) -> None:
    ours.run("create schema pgreact", "create table pgreact.theirs (id int)")
    for command in (("apply",), ("uninstall", "--yes")):
        said = pgreact(*command, dsn=ours.dsn)
        assert said.code == 1
        assert said.err == "pgreact: there is a schema pgreact that pgreact did not make: rename it first\n"
    assert ours.value("select count(*) from pgreact.theirs") == 0


def test_a_database_of_a_newer_pgreact_is_left_alone(applied: Database) -> None:
    applied.run("insert into pgreact.migration values ('9999_later', 'x')")
    said = pgreact("apply", dsn=applied.dsn)
    assert said.code == 1
    assert "set up by a newer pgreact (migration 9999_later)" in said.err


def test_a_database_that_cannot_be_reached_is_named_without_password() -> None:
    for command in (("apply",), ("status",), ("signal", "x"), ("uninstall", "--yes")):
        said = pgreact(*command, dsn="postgresql://me:secret@127.0.0.1:1/nope")
        assert said.code == 1
        assert (
            said.err.startswith("pgreact: user=me dbname=nope host=127.0.0.1 port=1: ")
            or "port=1" in said.err
        )
        assert "secret" not in said.err
        assert len(said.err.splitlines()) == 1


# ---- uninstall ---------------------------------------------------------------------------------------------


def test_uninstall_leaves_the_database_as_it_was(ours: Database) -> None:
    ours.run(
        'create schema "Weird ""Schema"',
        'create table "Weird ""Schema"."Job.Queue" (id int)',
        "create function own() returns trigger language plpgsql as 'begin return null; end'",
        "create trigger pgreact_mine after insert on job_queue execute function own()",
        "create table jobs_2 partition of jobs for values from (100) to (200)",
        "create table a_part partition of jobs for values from (200) to (300)",  # before its parent by name
    )
    before = catalog(ours)
    write(
        FILE
        + """
[routes.more]
task = "proj.more"
tables = [
  { table = "jobs", on = ["insert", "delete", "truncate"] },
  { table = '"Weird ""Schema"."Job.Queue"', on = ["insert", "update", "delete", "truncate"] },
]
"""
    )
    apply(ours)
    ours.run(
        "alter table jobs detach partition jobs_2",  # keeps its truncate trigger
        "insert into pgreact.route (name, task) values ('own', 'proj.own')",
        "select pgreact.attach('in_progress', 'own', '{update}')",
        "truncate pgreact.route cascade",  # deletes the records, and leaves the triggers
    )
    said = pgreact("uninstall", "--yes", dsn=ours.dsn)
    assert (said.code, said.err) == (0, "")
    assert said.out.endswith("- schema pgreact\n")
    ours.run("alter table jobs attach partition jobs_2 for values from (100) to (200)")
    assert catalog(ours) == before
    assert pgreact("uninstall", dsn=ours.dsn).out == "Nothing to remove.\n"


def test_uninstall_without_confirmation_removes_nothing(applied: Database) -> None:
    before = catalog(applied, rows=True)
    said = pgreact("uninstall", dsn=applied.dsn)
    assert said.code == 2
    assert said.err.startswith("pgreact: uninstall asks before it deletes these objects: give --yes to ")
    assert "- schema pgreact\n" in said.out
    assert catalog(applied, rows=True) == before


def test_uninstall_waits_for_locks_as_apply_does(applied: Database) -> None:
    with applied.connect() as long, long.transaction():
        long.execute("insert into in_progress values (1)")
        said = pgreact("uninstall", "--yes", "--wait", "500ms", dsn=applied.dsn)
    assert said.code == 1
    assert "no lock in 500ms" in said.err
    assert pgreact("uninstall", "--yes", dsn=applied.dsn).code == 0
