"""Reads of the queue past dead index entries: a claim reads on from where the last one found jobs."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.queue_steps import Queue

DEAD = 20_000  # index entries: more than a claim reads again and again
LANES = ("a", "b", "c")

_job = st.tuples(st.sampled_from(LANES), st.integers(-1, 1), st.sampled_from([None, None, "k", "l"]))
_round = st.tuples(st.lists(_job, max_size=8), st.integers(1, 6), st.booleans())


@pytest.fixture
def queue(steps: Queue) -> Queue:
    """An empty queue with three lanes."""
    steps.run("insert into pgreact.lane (name) values ('a'), ('b'), ('c')")
    return steps


@pytest.fixture
def snapshot(queue: Queue) -> Iterator[None]:
    """Another session's snapshot, which keeps all dead entries."""
    with queue.connect() as other:
        other.autocommit = False
        other.execute("set transaction isolation level repeatable read")
        other.execute("select count(*) from pgreact.queue")
        yield


def add_dead(queue: Queue, lane: str = "a", priority: int = 0) -> None:
    """Add ready jobs, and delete them."""
    queue.run(
        "insert into pgreact.queue (state, lane, task, priority, run_at) select 'ready', "
        f"'{lane}', 't', {priority}, now() - interval '1 h' from generate_series(1, {DEAD})",
        "delete from pgreact.queue",
    )


def read_from_here(queue: Queue) -> None:
    """Let claims read from the first jobs of now on, for an hour."""
    queue.run(
        "update pgreact.queue_state set full_read_at = clock_timestamp(), full_read = '3 min', "
        "floors = pgreact.queue_heads('{}')"
    )


def read_in_full(queue: Queue) -> None:
    """Let the next claim read in full."""
    queue.run("update pgreact.queue_state set full_read_at = full_read_at - interval '1 day'")


def entries_read(queue: Queue, index: str = "queue_ready") -> int:
    """Claim; return how many entries of an index that read."""
    with queue.connect() as connection, connection.transaction():
        connection.execute("select pgreact.claim(100)")
        [[found]] = connection.execute(
            "select pg_stat_get_xact_tuples_returned(%s::regclass)", (f"pgreact.{index}",)
        ).fetchall()
    return int(found)


def has_floors(queue: Queue) -> bool:
    """Whether claims read from floors on."""
    found: bool = queue.value("select floors is not null from pgreact.queue_state")
    return found


@pytest.mark.usefixtures("snapshot")
def test_claims_under_an_old_snapshot_read_few_dead_entries(queue: Queue) -> None:
    add_dead(queue)
    queue.add(lane="'a'")
    assert entries_read(queue) > DEAD
    assert has_floors(queue)
    queue.run("update pgreact.queue_state set full_read = '1 h'")  # no full read while this test runs
    first, second = queue.add(lane="'a'"), queue.add(lane="'b'")
    assert entries_read(queue) < 100
    assert (queue.state(first), queue.state(second)) == ("in progress", "in progress")
    assert entries_read(queue) < 100  # and none is found


def test_once_vacuum_has_removed_the_dead_entries_claims_read_in_full(queue: Queue) -> None:
    read_from_here(queue)
    queue.claim()
    assert has_floors(queue)
    read_in_full(queue)
    queue.claim()
    assert not has_floors(queue)


@pytest.mark.usefixtures("snapshot")
def test_a_full_read_renews_the_floors(queue: Queue) -> None:
    read_from_here(queue)
    add_dead(queue)
    read_in_full(queue)
    last = queue.add(lane="'a'", priority="3", run_at="now() - interval '1 min'")
    queue.claim()
    assert queue.value("select floors[1].id from pgreact.queue_state") == last


def test_a_job_before_its_floor_is_claimed_after_the_next_full_read(queue: Queue) -> None:
    queue.add(lane="'a'")
    read_from_here(queue)
    late = queue.add(lane="'a'", run_at="now() - interval '1 h'")
    queue.run("update pgreact.queue_state set full_read = '1.5 s'")
    answer = queue.claim()
    assert queue.state(late) == "ready"
    assert 20 < answer["next_s"] <= 30  # when a full read is due
    read_in_full(queue)
    assert queue.claimed() == [late]
    assert queue.claim()["next_s"] > 30  # the lease: no further read is due


def test_a_clock_that_was_set_back_holds_up_no_full_read(queue: Queue) -> None:
    queue.add(lane="'a'")
    read_from_here(queue)
    late = queue.add(lane="'a'", run_at="now() - interval '1 h'")
    queue.run("update pgreact.queue_state set full_read_at = full_read_at + interval '1 day'")
    queue.claim()
    assert queue.state(late) == "in progress"


def test_a_new_priority_and_a_new_lane_need_no_floor(queue: Queue) -> None:
    queue.add(lane="'b'")
    read_from_here(queue)
    jobs = [
        queue.add(lane=f"'{lane}'", priority=str(priority), run_at="now() - interval '1 h'")
        for lane in LANES
        for priority in (2, 1, -1, -2)
    ]
    assert set(jobs) < set(queue.claimed())


def test_more_than_1000_priorities_have_no_floors(queue: Queue) -> None:
    queue.run(
        "insert into pgreact.queue (state, lane, task, priority) "
        "select 'ready', 'a', 't', n from generate_series(1, 1001) n"
    )
    assert queue.value("select pgreact.queue_heads('{}')") is None
    read_from_here(queue)
    assert len(queue.claimed()) == 100


def test_a_full_lane_with_ready_jobs_is_reported_with_floors_too(queue: Queue) -> None:
    queue.run("update pgreact.lane set max_in_progress = 1 where name = 'a'")
    for _ in range(3):
        queue.add(lane="'a'")
    read_from_here(queue)
    answer = queue.claim()
    assert (answer["claimed"], [lane["lane"] for lane in answer["full_lanes"]]) == (1, ["a"])


def test_a_locked_job_is_replaced_by_a_later_one_with_floors_too(queue: Queue) -> None:
    queue.run("update pgreact.lane set max_in_progress = 1 where name = 'a'")
    jobs = [queue.add(lane="'a'") for _ in range(3)]
    read_from_here(queue)
    with queue.connect() as other, other.transaction():
        other.execute("select from pgreact.queue where id = %s for update", (jobs[0],))
        assert queue.claimed() == [jobs[1]]


def test_the_next_token_of_a_rate_is_awaited_with_floors_too(queue: Queue) -> None:
    queue.run("update pgreact.lane set rate = 0.5, burst = 1 where name = 'a'")
    for _ in range(2):
        queue.add(lane="'a'")
    read_from_here(queue)
    assert queue.claim()["next_s"] <= 2.1


def test_a_job_of_a_key_is_claimed_though_it_lies_before_its_floor(queue: Queue) -> None:
    for key in ("k", "l"):
        queue.add(lane="'a'", key=f"'{key}'")
    first, second = queue.claimed()
    blocked = queue.add(lane="'a'", key="'k'"), queue.add(lane="'a'", key="'l'")
    queue.claim()
    last = queue.add(lane="'a'")
    read_from_here(queue)
    for job, following in zip((first, second), blocked, strict=True):
        queue.start(job)
        queue.settle(job)
        assert following in queue.claimed()
    assert queue.state(last) == "in progress"


def test_jobs_that_were_lost_or_handed_back_are_claimed_though_they_lie_before_their_floor(
    queue: Queue,
) -> None:
    lost, back = queue.add(lane="'a'"), queue.add(lane="'a'")
    queue.claim()
    queue.add(lane="'a'")
    read_from_here(queue)
    queue.start(lost)
    queue.settle(lost, "lost")
    queue.value(
        "select pgreact.hand_back(array[id], array[claim_id], 'w') from pgreact.in_progress where id = %s",
        back,
    )
    assert {lost, back} < set(queue.claimed())


def test_a_delayed_job_is_claimed_though_it_lies_before_its_floor(queue: Queue) -> None:
    read_from_here(queue)
    later = queue.add(lane="'a'", run_at="clock_timestamp() + interval '10 ms'")
    queue.until(f"select clock_timestamp() > (select run_at from pgreact.queue where id = {later})")
    queue.add(lane="'a'")
    read_from_here(queue)
    queue.run("update pgreact.queue_state set delayed_floor = '-infinity'")
    assert later in queue.claimed()


@pytest.mark.usefixtures("snapshot")
def test_claims_under_an_old_snapshot_read_few_delayed_jobs_that_became_ready(queue: Queue) -> None:
    queue.run(
        "insert into pgreact.queue (state, lane, task, run_at) select 'delayed', 'a', 't', "
        f"now() - interval '1 h' from generate_series(1, {DEAD})",
        "update pgreact.queue set state = 'ready'",
        "delete from pgreact.queue",
    )
    assert entries_read(queue, "queue_delayed") >= DEAD
    assert has_floors(queue)
    queue.run("update pgreact.queue_state set full_read = '1 h'")
    later = queue.add(lane="'a'", run_at="clock_timestamp() + interval '10 ms'")
    queue.until(f"select clock_timestamp() > (select run_at from pgreact.queue where id = {later})")
    assert entries_read(queue, "queue_delayed") < 100
    assert queue.state(later) == "in progress"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=st.lists(_round, min_size=2, max_size=6))
def test_claims_with_floors_take_what_a_full_read_finds(module_queue: Queue, rounds: list[Any]) -> None:
    module_queue.empty()
    module_queue.run("insert into pgreact.lane (name) values ('a'), ('b'), ('c')")
    read_from_here(module_queue)
    with module_queue.connect() as connection:
        for jobs, batch, move in rounds:
            for lane, priority, key in jobs:
                connection.execute(
                    "select pgreact.enqueue('t', lane => %s, priority => %s, key => %s)",
                    (lane, priority, key),
                )
            if move:
                connection.execute(
                    "update pgreact.queue_state "
                    "set floors = pgreact.queue_heads(floors), full_read_at = clock_timestamp()"
                )
            assert _first(connection, "floors, full_read_at - interval '1 s'") == _first(connection, "'{}'")
            [[foreseen]] = connection.execute("select pgreact.next_jobs(%s)", (batch,)).fetchall()
            [[answer]] = connection.execute("select pgreact.claim(%s)", (batch,)).fetchall()
            assert answer["claimed"] == len(foreseen)
            taken = connection.execute("select id, claim_id from pgreact.in_progress").fetchall()
            assert sorted(foreseen) == sorted(job for job, _ in taken)
            for job, claim in taken:  # which lets the next job of a key become ready, before its floor
                connection.execute("select pgreact.settle(%s, %s, 'done')", (job, claim))


def _first(connection: "psycopg.Connection[Any]", floors: str) -> list[Any]:
    """The first job of each lane and priority."""
    return connection.execute(
        "select distinct on (h.lane, h.priority) h.lane, h.priority, h.id "
        f"from pgreact.queue_state q, unnest(pgreact.queue_heads({floors})) h "
        "where h.live order by h.lane, h.priority, h.run_at, h.id"
    ).fetchall()
