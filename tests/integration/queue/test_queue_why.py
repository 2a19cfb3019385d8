"""Why a job does not run: each cause made for real, and the preview of the next claim against the claim."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pgreact.demo.postgres import EmbeddedPostgres
from pgreact.queue.why import lines, why
from tests.queue_steps import Queue, queue_database

Connection = psycopg.Connection[tuple[Any, ...]]

LANES = ("a", "b", "c")
START = "select pgreact.start(id, claim_id, 0, 'w') from pgreact.in_progress where id = %s"
SETTLE = "select pgreact.settle(id, claim_id, 'done') from pgreact.in_progress where id = %s"


@pytest.fixture
def queue(steps: Queue) -> Queue:
    """An empty queue."""
    return steps


# ---- the next claim ----------------------------------------------------------------------------------------

_limit = st.none() | st.integers(0, 8)
_lane = st.fixed_dictionaries(
    {
        "max_in_progress": _limit,
        "max_unstarted": st.integers(1, 8) | st.just(200),
        "weight": st.sampled_from([1, 2, 8]),
        # a token in more than a day: time does not change the answer
        "rate": st.sampled_from([None, None, 1e-5]),
        "burst": st.integers(1, 9),
        "paused": st.sampled_from([False, False, False, True]),
    }
)
_jobs = st.lists(
    st.fixed_dictionaries(
        {
            "lane": st.sampled_from([*LANES, "new"]),
            "priority": st.integers(0, 2),
            "key": st.sampled_from([None, None, None, "k", "l", "m"]),
            "delayed": st.sampled_from([False, False, False, True]),
            "expired": st.sampled_from([False] * 9 + [True]),
            "size": st.sampled_from([10] * 6 + [1_500_000]),
            "copies": st.sampled_from([1, 1, 1, 30]),
        }
    ),
    max_size=12,
)
_round = st.tuples(
    _jobs,
    st.integers(1, 60),  # the batch of the claim
    st.lists(st.sampled_from(["start", "settle", "leave"]), min_size=1, max_size=6),
)


def _insert(connection: Connection, jobs: list[dict[str, Any]]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into pgreact.queue (task, lane, priority, key, state, run_at, expires, size) "
            "select 't', %(lane)s, %(priority)s, %(key)s, "
            "case when %(delayed)s then 'delayed' else 'ready' end, "
            "now() + case when %(delayed)s then interval '1 h' else interval '0' end, "
            # not of a key: it would unblock the next one within the claim, which the preview does not foresee
            "case when %(expired)s and %(key)s::text is null then now() - interval '1 s' end, %(size)s "
            "from generate_series(1, %(copies)s)",
            jobs,
        )


def _in_progress(connection: Connection) -> set[int]:
    return {job for (job,) in connection.execute("select id from pgreact.in_progress").fetchall()}


@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    lanes=st.tuples(_lane, _lane, _lane),
    whole=st.none() | st.integers(1, 40),
    rounds=st.lists(_round, min_size=1, max_size=3),
)
def test_the_preview_is_what_the_next_claim_takes(
    module_queue: Queue, lanes: tuple[dict[str, Any], ...], whole: int | None, rounds: list[Any]
) -> None:
    module_queue.empty()
    with module_queue.connect() as connection:
        for name, lane in zip(LANES, lanes, strict=True):
            connection.execute(
                "insert into pgreact.lane "
                "(name, max_in_progress, max_unstarted, weight, rate, burst, paused) values (%(name)s, "
                "%(max_in_progress)s, %(max_unstarted)s, %(weight)s, %(rate)s, %(burst)s, %(paused)s)",
                {"name": name, **lane},
            )
        connection.execute("update pgreact.queue_setting set max_in_progress = %s", (whole,))
        for jobs, batch, ends in rounds:
            _insert(connection, jobs)
            for size in (batch, 100):
                [[foreseen]] = connection.execute("select pgreact.next_jobs(%s)", (size,)).fetchall()
                before = _in_progress(connection)
                connection.execute("select pgreact.claim(%s)", (size,))
                after = _in_progress(connection)
                assert set(foreseen) == after - before
                # the messages that are not started are not published either, so their bytes count
                for job, end in zip(sorted(after), ends, strict=False):
                    if end != "leave":
                        connection.execute(START, (job,))
                    if end == "settle":
                        connection.execute(SETTLE, (job,))


# ---- causes ------------------------------------------------------------------------------------------------


@pytest.fixture
def led(queue: Queue) -> Iterator[Queue]:
    """A queue with a session that holds the leader's lock."""
    with queue.connect() as leader:
        leader.execute("select pg_advisory_lock(pgreact.lock_class('leader'), 0)")
        yield queue
    queue.until(
        "select not exists (select from pg_locks where locktype = 'advisory' "
        "and classid::bigint = pgreact.lock_class('leader'))"
    )


def _why(queue: Queue, job: int) -> dict[str, Any]:
    with queue.connect() as connection:
        return why(connection, job)


def _codes(queue: Queue, job: int) -> list[str]:
    return [cause["code"] for cause in _why(queue, job)["causes"]]


def _line(queue: Queue, job: int) -> str:
    [line] = lines(_why(queue, job))
    return line


def test_a_ready_job_runs_next(led: Queue) -> None:
    job = led.add("proj.mail")
    found = _why(led, job)
    assert (found["verdict"], found["runs_next"]) == ("next", True)
    assert found["job"] == {
        "id": job, "state": "ready", "task": "proj.mail", "lane": "default", "key": None, "attempt": 0,
    }  # fmt: skip
    assert _line(led, job) == (
        f"job {job} (proj.mail, lane default) runs next: the next claim takes it "
        "(ready for 0s, 0 jobs of its lane before it)"
    )


def test_nothing_runs_without_a_leader(queue: Queue) -> None:
    job = queue.add()
    found = _why(queue, job)
    assert [cause["code"] for cause in found["causes"]] == ["no_leader", "next"]
    assert (found["verdict"], found["runs_next"]) == ("waits", True)
    assert "no daemon leads, so nothing is claimed: start one" in _line(queue, job)


def test_what_fails_in_the_leader_is_a_cause(led: Queue) -> None:
    job = led.add()
    trigger = led.value(
        "select tgname from pg_trigger "
        "where tgrelid = 'pgreact.queue'::regclass and tgname ~ '^pgreact_.*_insert$'"
    )
    led.run(
        "insert into pgreact.flight (route_id, error) select id, 'claim: disk full' from pgreact.route "
        "where name = 'pgreact.queue'",
        f"alter table pgreact.queue disable trigger {trigger}",
    )
    try:
        assert _codes(led, job) == ["dispatch_failing", "trigger", "next"]
        line = _line(led, job)
        assert "cannot dispatch route pgreact.queue, and tries again: claim: disk full" in line
        assert "trigger for insert on pgreact.queue is disabled, so only the sweep, each" in line
    finally:
        led.run("delete from pgreact.flight", f"alter table pgreact.queue enable always trigger {trigger}")


def test_a_failing_statement_of_the_leader_is_a_cause(led: Queue) -> None:
    job = led.add()
    led.run(
        "insert into pgreact.trouble (source, subject, error, since) values "
        "('listen', 'gates', 'permission denied', now()), ('listen', 'housekeeping', 'x', now())"
    )
    try:
        with led.connect(application_name="pgreact leader host 1 1"):
            assert _codes(led, job) == ["leader_failing", "next"]
            assert "the leader fails at gates, for 0s: permission denied" in _line(led, job)
        led.until("select not exists (select from pg_stat_activity where application_name like 'pgreact l%')")
        assert _codes(led, job) == ["next"]
    finally:
        led.run("delete from pgreact.trouble")


def test_a_delayed_job_waits_until_its_time(led: Queue) -> None:
    job = led.add(run_at="now() + interval '3 h'")
    found = _why(led, job)
    [cause] = found["causes"]
    assert (cause["code"], cause["facts"]["retry"]) == ("delayed", False)
    assert cause["known_at"] == led.value("select run_at from pgreact.queue")
    assert "in 3h" in cause["text"]
    led.run("update pgreact.queue set run_at = now() - interval '2 s'")
    assert _codes(led, job) == ["due"]


def test_a_failed_job_waits_for_its_next_attempt(led: Queue) -> None:
    job = led.add(max_attempts="3", backoff="'1 h'")
    led.claim()
    led.start(job)
    led.settle(job, "failed", "ZeroDivisionError")
    [cause] = _why(led, job)["causes"]
    assert cause["facts"]["retry"]
    assert "to try again after attempt 1 (ZeroDivisionError)" in cause["text"]


def test_a_job_waits_for_the_head_of_its_key(led: Queue) -> None:
    led.run("insert into pgreact.lane (name) values ('mail')")
    first, second, third = (led.add("m", lane="'mail'", key="'user:42'") for _ in range(3))
    # no claim has marked them yet
    assert _line(led, third).startswith(
        f'job {third} (m, lane mail) waits: behind job {first} of key "user:42", with 1 job of the key '
        "between them, which runs next"
    )
    led.claim()
    led.start(first)
    led.run("update pgreact.lane set max_in_progress = 1 where name = 'mail'")
    assert led.state(second) == "blocked"
    assert _line(led, second).startswith(
        f'job {second} (m, lane mail) waits: behind job {first} of key "user:42", which runs on w for 0s; '
        f"then lane mail: 1 of 1 places taken (longest: job {first} on w for 0s)"
    )
    led.settle(first)
    assert _codes(led, second) == ["next"]


def test_a_head_that_waits_tells_for_what(led: Queue) -> None:
    first = led.add(key="'k'", run_at="now() + interval '2 h'")
    second = led.add(key="'k'")
    assert f"behind job {first} of key k, which waits: delayed until" in _line(led, second)


def test_a_job_whose_head_was_taken_away_is_unblocked_by_the_next_claim(led: Queue) -> None:
    first, second = led.add(key="'k'"), led.add(key="'k'")
    led.claim()
    led.run(f"delete from pgreact.in_progress where id = {first}")
    assert _codes(led, second) == ["unblocking"]


def test_a_paused_lane_names_when_and_by_whom(led: Queue) -> None:
    job = led.add()
    with led.connect() as connection:
        connection.execute("select set_config('pgreact.actor', 'ann', false)")
        connection.execute("update pgreact.lane set paused = true")
    assert _codes(led, job) == ["paused"]
    assert 'lane default is paused for 0s, by ann: "pgreact queue resume default" ends that' in _line(
        led, job
    )


def test_each_limit_of_a_lane_is_a_cause(led: Queue) -> None:
    led.run("update pgreact.lane set max_in_progress = 2, max_unstarted = 2, rate = 0.1, burst = 2")
    taken = [led.add(), led.add()]
    led.claim()
    job = led.add()
    found = _why(led, job)
    assert [cause["code"] for cause in found["causes"]] == ["lane_full", "unstarted", "rate"]
    full, unstarted, rate = (cause["text"] for cause in found["causes"])
    assert full == "lane default: 2 of 2 places taken"
    assert unstarted == "lane default: 2 of 2 messages wait for a worker (max_unstarted)"
    assert rate.startswith("lane default: next token in ")
    left = (
        found["causes"][2]["known_at"] - led.value("select tokens_at from pgreact.lane_state")
    ).total_seconds()
    assert left == pytest.approx(10, abs=0.01)
    for each in taken:
        led.start(each)
    assert _codes(led, job) == ["lane_full", "rate"]
    led.run("update pgreact.lane set max_in_progress = null, rate = null")
    assert _codes(led, job) == ["next"]


def test_messages_that_no_worker_starts_are_told_with_the_verdict(led: Queue) -> None:
    led.run("update pgreact.lane set max_unstarted = 1")
    sent, job = led.add(), led.add()
    led.claim()
    assert _codes(led, sent) == ["published"]
    assert "waits for a worker in Celery queue default: sent 0s ago; without a start it is sent again in" in (
        _line(led, sent)
    )
    led.run("update pgreact.in_progress set claimed_at = claimed_at - interval '2 min', publishes = 3")
    assert "sent 4 times, last 0s ago" in _line(led, sent)
    for each in (sent, job):
        assert "no worker seems to consume the queue" in _line(led, each)


def test_the_whole_queue_may_be_full(led: Queue) -> None:
    led.run("update pgreact.queue_setting set max_in_progress = 1")
    led.add()
    led.claim()
    job = led.add()
    assert _codes(led, job) == ["queue_full"]
    assert "the queue: 1 of 1 places taken in all lanes" in _line(led, job)


def test_arguments_that_wait_to_be_published_hold_up_claims(led: Queue) -> None:
    led.add()
    led.run(
        "update pgreact.queue set size = 9000000", "select pgreact.claim(1)", "select pgreact.unpublished()"
    )
    job = led.add()
    assert _codes(led, job) == ["bytes"]


def test_a_job_waits_behind_others_of_its_lane(led: Queue) -> None:
    job = led.add()
    led.run("select pgreact.enqueue('t', lane => 'default', priority => 1) from generate_series(1, 120)")
    assert _codes(led, job) == ["order"]
    assert "behind 120 jobs of lane default by priority and time" in _line(led, job)


def test_a_job_waits_for_its_lanes_share(led: Queue) -> None:
    led.run(
        "insert into pgreact.lane (name, weight) values ('busy', 1000)",
        "insert into pgreact.lane_state (lane, virtual_time) values ('default', 1000)",
        "select pgreact.enqueue('t', lane => 'busy') from generate_series(1, 120)",
    )
    job = led.add()
    assert _codes(led, job) == ["fair_share"]
    assert "the next claim takes 100 jobs, by fair shares with 1 other lane" in _line(led, job)


def test_a_task_that_is_not_routed_has_no_lane(led: Queue) -> None:
    job = led.value("select pgreact.enqueue('proj.new')")
    assert _codes(led, job) == ["unrouted"]


def test_a_job_that_expired_is_dropped_by_the_next_claim(led: Queue) -> None:
    job = led.add(expires="now() + interval '1 h'")
    led.run("update pgreact.queue set expires = now() - interval '1 s'")
    assert _codes(led, job) == ["expired"]
    assert not _why(led, job)["runs_next"]
    led.claim()
    assert _why(led, job)["verdict"] == "dead"


def test_a_claimed_job_waits_for_its_publish_then_its_start(led: Queue) -> None:
    job = led.add()
    led.run("select pgreact.claim(1)", "select pgreact.unpublished()")
    assert _codes(led, job) == ["claimed"]
    led.claim()
    assert _codes(led, job) == ["published"]
    led.start(job)
    assert _line(led, job) == f"job {job} (t, lane default) runs on w for 0s"
    led.run("update pgreact.in_progress set lease_until = now() - interval '5 s'")
    assert _codes(led, job) == ["running", "lease_ended"]


def test_a_dead_job_names_its_error_and_the_command_to_retry(led: Queue) -> None:
    job = led.add()
    led.claim()
    led.start(job)
    led.settle(job, "failed", "ValueError: no\nsuch user")
    assert _line(led, job) == (
        f"job {job} (t, lane default) died 0s ago, failed: ValueError: no such user; "
        f'"pgreact queue retry {job}" queues it again'
    )


def test_a_settled_job_is_read_from_the_history(led: Queue) -> None:
    kept, forgotten = led.add(), led.add()
    led.claim()
    led.start(forgotten)
    led.settle(forgotten)
    led.run("update pgreact.queue_setting set retention = '1 day'", "select pgreact.maintain_history()")
    led.start(kept)
    led.settle(kept)
    assert _line(led, kept) == f"job {kept} (t, lane default) ended 0s ago on w: done"
    assert "it settled more than 1d ago (retention)" in _line(led, forgotten)
    assert "never existed" in _line(led, forgotten + 1000)
    assert _why(led, forgotten)["verdict"] == "unknown"


def test_the_answer_reads_a_bounded_part_of_a_long_queue(postgres: EmbeddedPostgres) -> None:
    with queue_database(postgres) as long:
        with long.connect() as connection:
            indexes = connection.execute(
                "select indexname, indexdef from pg_indexes where schemaname = 'pgreact' "
                "and tablename = 'queue' "
                "and indexname not in ('queue_pkey', 'queue_unique')"
            ).fetchall()
        long.run(
            "alter table pgreact.queue set unlogged",
            "alter table pgreact.queue disable trigger user",
            *(f"drop index pgreact.{name}" for name, _ in indexes),
            "insert into pgreact.queue (task, lane, priority, key) select 't', 'default', n % 3, "
            "case when n % 10 = 0 then 'k' end from generate_series(1, 1000000) n",
            *(definition for _, definition in indexes),
            "vacuum analyze pgreact.queue",
        )
        with long.connect() as connection:
            for job, code in ((999_999, "order"), (1_000_000, "key")):
                [cause] = [each for each in why(connection, job)["causes"] if each["code"] == code]
                assert "10 000+ jobs" in cause["text"]
                [[[explained]]] = connection.execute(
                    f"explain (analyze, buffers, format json) select pgreact.why_job({job})".encode()
                ).fetchall()
                plan = explained["Plan"]
                # the whole queue has more than 10,000 pages
                assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 3000
                assert plan["Actual Total Time"] < 1000


def test_who_may_ask(led: Queue) -> None:
    job = led.add()
    name = f"asker_{led.value('select oid from pg_database where datname = current_database()')}"
    for kind, may in (("monitor", True), ("operator", True), ("enqueuer", True), ("worker", False)):
        led.run(f"create role {name}", f"select pgreact.grant_role('{name}', '{kind}')")
        try:
            with led.connect() as connection:
                connection.execute(f"set role {name}".encode())
                if may:
                    assert why(connection, job)["runs_next"]
                else:
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        why(connection, job)
        finally:
            led.run(f"drop owned by {name}", f"drop role {name}")
