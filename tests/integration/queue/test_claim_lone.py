"""The claim of the only ready job, beside the same claim by the general steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.queue_steps import Queue

Connection = psycopg.Connection[tuple[Any, ...]]

NOW = "timestamptz '2030-01-01 00:00:00+00'"
FROZEN = (
    f"create or replace function pgreact.clock_now() returns timestamptz language sql volatile return {NOW}"
)
GENERAL = """
create or replace function pgreact.claim_lone(
    state pgreact.queue_state, setting pgreact.queue_setting, reference_time timestamptz,
    next_delayed timestamptz)
    returns jsonb language sql return null::jsonb
"""
WITHOUT_GENERAL = """
create or replace function pgreact.lane_rooms(
    names text[], at timestamptz, rated text[], lanes text[], used bigint[], unstarted bigint[],
    taken bigint[] default null, short text[] default '{}')
    returns table (
        lane text, paused boolean, weight float8, virtual_time float8, taken_jobs bigint,
        in_progress bigint, max_in_progress integer, not_started bigint, max_unstarted integer,
        rate float8, burst integer, tokens float8, room float8)
    language plpgsql as $$ begin raise 'a general step'; end $$
"""
TABLES = ("queue", "in_progress", "dead", "history", "contested_key", "lane", "lane_state", "queue_state")

LANE = {
    "max_in_progress": None,
    "max_unstarted": 200,
    "weight": 1,
    "rate": None,
    "paused": False,
    "known": True,
}
JOB = {
    "lane": "a",
    "priority": 0,
    "key": None,
    "state": "ready",
    "after": 0,
    "expires": None,
    "size": 10,
    "resume": None,
    "lost": 0,
    "trace": None,
}
RUNNING = {
    "lane": "a",
    "key": None,
    "started": True,
    "published": True,
    "publishes": 0,
    "lease": 60,
    "expires": None,
    "claim": 7,
}
RESUME = '{"task": "u", "args": [1], "retries": 2, "before": 1}'
TRACE = '{"traceparent": "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"}'

# What may be otherwise than usual: one job is ready, and one runs in its lane.
_change = st.one_of(
    st.tuples(
        st.just("lane"),
        st.sampled_from(
            [
                *({"max_in_progress": limit} for limit in (0, 1, 2)),
                *({"max_unstarted": limit} for limit in (1, 2)),
                {"weight": 3},
                {"rate": 1e-5},
                {"paused": True},
                {"known": False},
            ]
        ),
    ),
    st.tuples(
        st.just("job"),
        st.sampled_from(
            [
                *({"lane": lane} for lane in ("b", "new", None)),
                {"priority": 1},
                {"key": "k"},
                {"state": "delayed"},
                *({"state": "delayed", "after": after} for after in (-60, 60)),
                *({"after": after} for after in (-60, 60)),
                *({"expires": expires} for expires in (-1, 0, 30, 90)),
                *({"size": size} for size in (None, 8_388_608, 8_388_609)),
                {"resume": RESUME},
                {"lost": 1},
                {"trace": TRACE},
            ]
        ),
    ),
    st.tuples(
        st.just("running"),
        st.sampled_from(
            [
                {"lane": "b"},
                {"key": "k"},
                {"started": False},
                {"started": False, "published": False},
                {"started": False, "publishes": 2},
                *({"lease": lease} for lease in (-1, 0, 30)),
                *({"started": started, "expires": 30} for started in (True, False)),
                {"started": False, "expires": 0},
                {"claim": 8},
            ]
        ),
    ),
    st.tuples(st.just("jobs"), st.sampled_from([0, 2])),
    st.tuples(st.just("runs"), st.sampled_from([0, 2])),
    st.tuples(st.just("whole"), st.sampled_from([0, 1, 2, 3])),
    st.tuples(st.just("contested"), st.just(True)),
    st.tuples(st.just("batch"), st.sampled_from([1, 2])),
)


@settings(
    max_examples=120,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(changes=st.lists(_change, max_size=4))
@example(changes=[("lane", {"max_unstarted": 1}), ("running", {"started": False})])
@example(changes=[("job", {"key": "k"}), ("running", {"key": "k"})])
@example(changes=[("jobs", 2), ("job", {"lane": "b"})])
def test_a_claim_of_one_job_does_what_the_general_steps_do(
    module_queue: Queue, changes: list[tuple[str, Any]]
) -> None:
    given_: dict[str, Any] = {"jobs": 1, "runs": 1, "whole": None, "contested": False, "batch": 100}
    given_ |= {"lane": LANE, "job": JOB, "running": RUNNING}
    for what, change in changes:
        given_[what] = {**given_[what], **change} if isinstance(change, dict) else change
    module_queue.empty()
    with module_queue.connect(autocommit=False) as connection:
        _prepare(connection, given_)
        with undone(connection):
            answer, rows = _claim(connection, given_["batch"])
        with undone(connection):
            connection.execute(GENERAL)
            general_answer, general_rows = _claim(connection, given_["batch"])
        connection.rollback()
    assert answer == general_answer
    for table in TABLES:
        assert (table, rows[table]) == (table, general_rows[table])


def _prepare(connection: Connection, given_: dict[str, Any]) -> None:
    """Stop the clock, and write the rows that a claim finds; a second job, or running one, is as usual."""
    connection.execute(FROZEN)
    for lane in ({"name": "a", **given_["lane"]}, {"name": "b", **LANE}):
        connection.execute(
            "insert into pgreact.lane (name, max_in_progress, max_unstarted, weight, rate, paused) "
            "values (%(name)s, %(max_in_progress)s, %(max_unstarted)s, %(weight)s, %(rate)s, %(paused)s)",
            lane,
        )
        if lane["known"]:
            connection.execute(
                "insert into pgreact.lane_state (lane, virtual_time, recent, recent_at) "
                f"values (%(name)s, 2, 5, {NOW} - interval '90 s')",
                lane,
            )
    connection.execute("update pgreact.queue_setting set max_in_progress = %s", (given_["whole"],))
    connection.execute("update pgreact.queue_state set virtual_time = 3, claim_number = 8, oldest_claim = 7")
    for number in range(given_["runs"]):
        connection.execute(
            "insert into pgreact.in_progress (id, lane, task, args, kwargs, priority, run_at, key, "
            "unique_while, attempt, max_attempts, backoff, options, enqueued_at, task_id, claimed_at, "
            "claim_number, started_at, published_at, publishes, lease_until, expires) "
            f"select %(id)s, %(lane)s, 't', '[]', '{{}}', 0, {NOW}, %(key)s, 'queued', 1, 1, '5 s', '{{}}', "
            f"{NOW}, gen_random_uuid(), {NOW}, %(claim)s, case when %(started)s then {NOW} end, "
            f"case when %(published)s then {NOW} end, %(publishes)s, {NOW} + %(lease)s * interval '1 s', "
            f"{NOW} + %(expires)s * interval '1 s'",
            {**(given_["running"] if number == 0 else RUNNING), "id": 1000 + number},
        )
    for number in range(given_["jobs"]):
        connection.execute(
            "insert into pgreact.queue (task, lane, priority, key, state, run_at, expires, size, resume, "
            "lost, trace) "
            f"select 't', %(lane)s, %(priority)s, %(key)s, %(state)s, {NOW} + %(after)s * interval '1 s', "
            f"{NOW} + %(expires)s * interval '1 s', %(size)s, %(resume)s::jsonb, %(lost)s, %(trace)s::jsonb",
            given_["job"] if number == 0 else JOB,
        )
    if given_["contested"]:
        connection.execute("insert into pgreact.contested_key (key, claim_number) values ('k', 7)")


def _claim(connection: Connection, batch: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Claim; return the answer and all rows, without the random ids of attempts."""
    [[answer]] = connection.execute("select pgreact.claim(%s)", (batch,)).fetchall()
    for job in answer["jobs"]:
        assert job.pop("claim_id")
    rows = {
        table: connection.execute(
            f"select coalesce(jsonb_agg(r.row order by r.row::text), '[]') "
            f"from (select to_jsonb(t) - 'claim_id' as row from pgreact.{table} t) r".encode()
        ).fetchone()
        for table in TABLES
    }
    return answer, rows


@contextmanager
def undone(connection: Connection) -> Iterator[None]:
    """Undo what a block does."""
    connection.execute("savepoint s")
    yield
    connection.execute("rollback to savepoint s")


@pytest.fixture
def alone(steps: Queue) -> Iterator[Queue]:
    """A queue whose claims fail at a general step, and whose lane has had a job."""
    job = steps.add()
    assert steps.claimed() == [job]
    steps.settle(job)
    restore = steps.value("select pg_get_functiondef('pgreact.lane_rooms'::regproc)")
    steps.run(WITHOUT_GENERAL)
    yield steps
    steps.run(restore)


def test_the_only_ready_job_needs_no_general_step(alone: Queue) -> None:
    alone.run("update pgreact.lane set max_in_progress = 3")
    delayed = alone.add(run_at="now() + interval '1 h'")
    jobs = [alone.add()]
    assert alone.claimed() == jobs
    jobs.append(alone.add(expires="now() + interval '1 h'"))
    assert alone.claimed() == jobs[1:]
    alone.add()
    alone.add()
    with pytest.raises(psycopg.errors.RaiseException, match="a general step"):
        alone.claim()
    assert alone.state(delayed) == "delayed"


def test_a_job_that_another_transaction_holds_is_left_to_the_general_steps(steps: Queue) -> None:
    first = steps.add()
    assert steps.claimed() == [first]
    job = steps.add()
    with steps.connect(autocommit=False) as other:
        other.execute("select from pgreact.queue where id = %s for update", (job,))
        answer = steps.claim()
        assert (answer["claimed"], answer["jobs"]) == (0, [])
        assert answer["next_s"] < 1.5, "a rollback signals nothing"
    assert steps.claimed() == [job]


def test_a_claim_signals_nothing(steps: Queue) -> None:
    with steps.connect() as listener:
        listener.execute("listen pgreact")
        for _ in range(2):  # the first job of a lane takes the general steps
            job = steps.add()
            assert steps.claimed() == [job]
            steps.value("select pgreact.unpublished()")
            assert steps.claimed() == [job]
            steps.settle(job)
            listener.execute("notify pgreact, 'end'")
            signals = [one.payload for one in listener.notifies(timeout=5, stop_after=3)]
            assert signals == ["0", "0", "end"], "of the job and of its settlement alone"
