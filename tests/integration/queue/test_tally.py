"""Numbers of settled attempts: what a settlement records, and that the roll-up counts each attempt once."""

import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pgreact.demo.postgres import EmbeddedPostgres
from tests.harness import fresh_database, install
from tests.queue_steps import Queue, queue_database

SUMS = "select coalesce(sum(jobs), 0)::int from pgreact.{}"


@pytest.fixture
def queue(steps: Queue) -> Queue:
    """An empty queue without numbers."""
    return steps


def counted(queue: Queue, table: str = "tally") -> int:
    """Return the attempts that a table has."""
    found: int = queue.value(SUMS.format(table))
    return found


def settle(queue: Queue, jobs: int = 1, outcome: str = "done") -> None:
    """Enqueue, claim, start and settle jobs."""
    ids = [queue.add() for _ in range(jobs)]
    queue.claim()
    for job in ids:
        queue.start(job)
        queue.settle(job, outcome)


def test_the_parts_of_an_attempts_way_add_up_to_its_wait(queue: Queue) -> None:
    settle(queue)
    transaction, parts, run = queue.value(
        "select jsonb_build_array(transaction_s, claim_s + publish_s + broker_s, run_s) from pgreact.settled"
    )
    assert transaction is None, "PostgreSQL does not keep commit times here"
    assert 0 < parts < 10
    assert 0 < run < 10
    assert queue.value("select pgreact.roll_up()") == 1
    waits, wait, runs, run_sum = queue.value(
        "select jsonb_build_array(waits, wait_s, runs, run_s) from pgreact.tally"
    )
    assert (sum(waits), sum(runs)) == (1, 1)
    assert (wait, run_sum) == (pytest.approx(parts, abs=1e-5), pytest.approx(run, abs=1e-5))
    bounds = queue.value("select pgreact.buckets()")
    assert len(waits) == len(runs) == len(bounds) + 1
    place = waits.index(1)
    assert ([0, *bounds][place]) <= wait < bounds[place]


def test_a_wait_begins_when_a_job_becomes_ready(queue: Queue) -> None:
    hour = "clock_timestamp() - interval '1 h'"
    first, second = queue.add(key="'k'"), queue.add(key="'k'", run_at=hour)
    late = queue.add(run_at="clock_timestamp() + interval '1 h'")
    queue.run(
        f"update pgreact.queue set run_at = {hour}, enqueued_at = {hour} - interval '1 h' where id = {late}"
    )
    queue.claim()
    for job in (first, late):
        queue.start(job)
        queue.settle(job)
    queue.claim()
    queue.start(second)
    queue.settle(second)
    waits = queue.value("select array_agg(claim_s order by claim_s) from pgreact.settled")
    assert waits[:2] == [pytest.approx(0, abs=10)] * 2, "neither the backdated job nor its successor waited"
    assert waits[2] == pytest.approx(3600, abs=10), "from run_at, not from its enqueue"


def test_a_repeated_attempt_waits_from_the_end_of_the_one_before(queue: Queue) -> None:
    queue.add(max_attempts="2", backoff="interval '0'", run_at="clock_timestamp() - interval '1 h'")
    queue.run("update pgreact.queue set enqueued_at = run_at")
    for outcome in ("lost", "failed", "done"):
        [job] = queue.claimed()
        queue.start(job)
        queue.settle(job, outcome)
    found = queue.value("select array_agg(round(claim_s / 600) order by settled_at) from pgreact.settled")
    assert found == [6, 0, 0]


def test_a_transaction_that_commits_late_is_counted_once_and_into_its_minute(queue: Queue) -> None:
    jobs = [queue.add(), queue.add()]
    queue.claim()
    for job in jobs:
        queue.start(job)
    statement = "select pgreact.settle(id, claim_id, 'done') from pgreact.in_progress where id = %s"
    with queue.connect(autocommit=False) as late:
        late.execute(statement, (jobs[0],))
        late.execute("update pgreact.settled set settled_at = settled_at - interval '5 min'")
        queue.settle(jobs[1])
        assert queue.value("select pgreact.roll_up()") == 1
        assert queue.value("select pgreact.roll_up()") == 0
        late.commit()
    assert queue.value("select pgreact.roll_up()") == 1
    assert queue.value("select pgreact.roll_up()") == 0
    assert counted(queue) == counted(queue, "tally_total") == 2
    assert queue.value("select count(distinct minute) from pgreact.tally") == 2


def test_a_roll_up_that_is_rolled_back_loses_nothing(queue: Queue) -> None:
    settle(queue, 3)
    with queue.connect(autocommit=False) as connection:
        assert connection.execute("select pgreact.roll_up()").fetchone() == (3,)
        assert queue.value("select pgreact.roll_up()") is None, "one session rolls up at a time"
        connection.rollback()
    assert queue.value("select pgreact.roll_up()") == 3
    assert counted(queue) == 3


def test_two_leaders_at_once_count_no_attempt_twice(queue: Queue) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def roll_up() -> None:
        try:
            with queue.connect() as connection:
                while not stop.is_set():
                    connection.execute("select pgreact.roll_up(3)")
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    threads = [threading.Thread(target=roll_up) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(4):
            settle(queue, 10)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    while queue.value("select pgreact.roll_up()"):
        pass
    assert not failures
    assert counted(queue) == counted(queue, "tally_total") == 40
    assert queue.value("select count(*) from pgreact.settled") == 0


def test_rows_and_state_of_another_server_are_counted_after_a_restore(queue: Queue) -> None:
    settle(queue)
    queue.run(
        "update pgreact.settled set xid = '1000000000000'",
        "update pgreact.tally_state set counted = '1000000000000:1000000000000:'",
    )
    settle(queue)
    assert queue.value("select pgreact.roll_up()") == 2
    settle(queue)
    assert queue.value("select pgreact.roll_up()") == 1
    assert counted(queue) == 3


def test_a_name_beyond_the_limit_of_an_index_is_cut(queue: Queue) -> None:
    queue.run(
        "insert into pgreact.settled (settled_at, lane, task, outcome) "
        "select now(), string_agg(md5(n::text), ''), string_agg(md5(n::text), ''), 'done' "
        "from generate_series(1, 200) n"
    )
    assert queue.value("select pgreact.roll_up()") == 1
    assert queue.value("select length(lane) + length(task) from pgreact.tally") == 510


def test_jobs_that_never_started_count_without_a_wait(queue: Queue) -> None:
    queue.run(f"select pgreact.cancel({queue.add()})")
    expired = queue.add(expires="clock_timestamp() + interval '1 ms'")
    queue.run(f"update pgreact.queue set expires = '2000-01-01Z' where id = {expired}")
    queue.claim()
    assert queue.value("select pgreact.roll_up()") == 2
    assert queue.value("select jsonb_object_agg(outcome, jobs) from pgreact.tally") == {
        "cancelled": 1,
        "expired": 1,
    }
    assert queue.value("select max((select sum(w) from unnest(waits) w)) from pgreact.tally") == 0


def test_old_minutes_become_hours_once(queue: Queue) -> None:
    settle(queue, 2)
    settle(queue, 1, "failed")
    queue.run(
        "select pgreact.roll_up()",
        "update pgreact.tally set minute = date_trunc('hour', now()) - interval '3 days' + interval '17 min'",
        "update pgreact.tally_state set folded_until = '-infinity'",
    )
    for _ in range(2):
        queue.run("select pgreact.roll_up()")
    assert (counted(queue), counted(queue, "tally_hour"), counted(queue, "tally_total")) == (0, 3, 3)
    assert queue.value(
        "select min(minute) = date_trunc('hour', now() - interval '3 days') and count(*) = 2 "
        "and sum((select sum(w) from unnest(waits) w)) = 3 from pgreact.tally_hour"
    )
    queue.run(
        "update pgreact.tally_hour set minute = minute - interval '90 days'",
        "update pgreact.tally_state set folded_until = '-infinity'",
        "select pgreact.roll_up()",
    )
    assert (counted(queue, "tally_hour"), counted(queue, "tally_total")) == (0, 3)


def blocks(connection: "psycopg.Connection[Any]", statement: str) -> int:
    """Return the blocks that a statement touches."""
    [[plan]] = connection.execute(f"explain (analyze, buffers, format json) {statement}".encode()).fetchall()
    top = plan[0]["Plan"]
    return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])


def test_an_old_snapshot_does_not_slow_the_roll_up(queue: Queue) -> None:
    def fill() -> None:
        queue.run(
            "insert into pgreact.settled (settled_at, task, outcome) select now(), 't', 'done' "
            "from generate_series(1, 3000)",
            "select pgreact.roll_up()",
        )

    fill()
    with queue.connect(autocommit=False) as old, queue.connect() as connection:
        old.execute("set transaction isolation level repeatable read")
        old.execute("select count(*) from pgreact.settled")
        first = blocks(connection, "select pgreact.roll_up()")
        for _ in range(5):
            fill()
        connection.execute("select pgreact.roll_up()")
        assert blocks(connection, "select pgreact.roll_up()") <= first + 10
    assert counted(queue) == 18_000


@pytest.fixture(scope="module")
def tracked() -> Iterator[Queue]:
    """A queue on a server that keeps commit times."""
    with (
        EmbeddedPostgres(settings={"track_commit_timestamp": "on"}) as server,
        queue_database(server) as found,
    ):
        yield found


def test_the_users_transaction_is_a_part_of_its_own_where_commit_times_are_kept(tracked: Queue) -> None:
    with tracked.connect(autocommit=False) as connection:
        connection.execute("select pgreact.enqueue('t', lane => 'default')")
        connection.execute("select pg_sleep(0.05)")
        connection.commit()
    [job] = tracked.claimed()
    tracked.start(job)
    tracked.settle(job)
    transaction, claim = tracked.value(
        "select jsonb_build_array(transaction_s, claim_s) from pgreact.settled"
    )
    assert 0.05 <= transaction < 5
    assert 0 <= claim < 5
    assert tracked.value("select pgreact.roll_up()") == 1
    assert tracked.value("select transactions from pgreact.tally") == 1


@pytest.fixture(scope="module")
def million(postgres: EmbeddedPostgres, _defaults: None) -> Iterator[Queue]:
    """A queue of a million jobs in four lanes, and one in a lane of its own."""
    with fresh_database(postgres) as fresh:
        install(fresh, {"lanes": {f"l{n}": {} for n in range(4)} | {"rare": {}}})
        queue = Queue(fresh.dsn)
        queue.run(
            "alter table pgreact.queue disable trigger user",
            "insert into pgreact.queue (lane, task, priority, state, enqueued_at, run_at) "
            "select 'l' || n % 4, 't', n % 7, "
            "(array['ready', 'ready', 'delayed', 'blocked'])[1 + n / 5 % 4], "
            "now() - interval '1 day', "
            "now() + (n % 1000 - 2000) * interval '1 s' from generate_series(1, 1000000) n",
            "insert into pgreact.queue (lane, task) values ('rare', 't')",
            "alter table pgreact.queue enable trigger user",
            "vacuum analyze pgreact.queue",
        )
        yield queue


def test_counts_stop_above_ten_thousand_and_cost_no_more_with_a_million_jobs(million: Queue) -> None:
    with million.connect() as connection:
        connection.execute("select pgreact.lane_depths()")
        found = connection.execute("select * from pgreact.lane_depths()").fetchall()
        by_lane = {row[0]: row for row in found}
        assert {row[9] for row in found} == {10_000}
        assert by_lane["l0"][1:4] == (10_001, 10_001, 10_001)
        assert by_lane["rare"][1:4] == (1, 0, 0)
        assert by_lane["default"][1:4] == (0, 0, 0)
        oldest = "select min(run_at) from pgreact.queue where state = 'ready' and lane = 'l0'"
        assert connection.execute(oldest).fetchone() == (by_lane["l0"][5],)
        assert blocks(connection, "select pgreact.lane_depths()") < 1500
        assert blocks(connection, "select pgreact.load('l1')") < 200
        assert blocks(connection, "select pgreact.load()") < 200
        assert connection.execute("select pgreact.load('l1'), pgreact.load('rare')").fetchone() == (10_000, 1)
        [[size]] = connection.execute("select pg_relation_size('pgreact.queue') / 8192").fetchall()
        assert size > 15_000
        connection.execute(
            "insert into pgreact.lane (name) select 'empty' || n from generate_series(1, 300) n"
        )
        few = connection.execute("select ready, counted_to from pgreact.lane_depths() where lane = 'l0'")
        assert few.fetchone() == (327, 326), "many lanes share the rows that are counted"
        assert blocks(connection, "select pgreact.lane_depths()") < 6000
