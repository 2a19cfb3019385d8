"""The rules of the queue, at the claim itself: limits, turns, rates, order, uniqueness, attempts, leases."""

import inspect
import itertools
import json
import random
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from celery import Celery, Task
from celery.app.amqp import AMQP
from celery.app.task import Context
from kombu import Producer

from pgreact.postgres.queries import query
from tests.harness import eventually
from tests.queue_steps import Queue

UUID = "5ca1ab1e-0000-4000-8000-000000000001"


@pytest.fixture
def queue(steps: Queue) -> Queue:
    """An empty queue."""
    return steps


# ---- enqueue -----------------------------------------------------------------------------------------------


def test_a_job_that_was_rolled_back_never_was(queue: Queue) -> None:
    with queue.connect(autocommit=False) as connection:
        connection.execute("select pgreact.enqueue('t')")
        connection.rollback()
    assert queue.claimed() == []


def test_a_claim_returns_the_job_as_enqueued(queue: Queue) -> None:
    job = queue.add(
        "proj.mail", args="'[1, \"ä\"]'", kwargs='\'{"a": {"b": null}}\'', options='\'{"queue": "q"}\''
    )
    (found,) = queue.claim()["jobs"]
    assert [found[key] for key in ("id", "task", "args", "kwargs", "options", "attempt")] == [
        job,
        "proj.mail",
        '[1, "ä"]',
        '{"a": {"b": null}}',
        '{"queue": "q"}',
        1,
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("pgreact.enqueue('')", "a job needs the name of a task"),
        ("pgreact.enqueue('t', args => '{}')", "args is a JSON object, not an array"),
        ("pgreact.enqueue('t', kwargs => '[]')", "kwargs is a JSON array, not an object"),
        ("pgreact.enqueue('t', options => '3')", "options is a JSON number, not an object"),
        ("pgreact.enqueue('t', options => '{\"retries\": 1}')", 'no option "retries"'),
        ("pgreact.enqueue('t', options => '{\"countdown\": 1}')", 'no option "countdown"'),
        ("pgreact.enqueue('t', lane => 'mial')", 'no lane "mial"'),
        ("pgreact.enqueue('t', max_attempts => 0)", "max_attempts is 0"),
        ("pgreact.enqueue('t', backoff => '-1 s')", "backoff is -00:00:01"),
        ("pgreact.enqueue('t', unique_while => 'ever')", 'unique_while is "ever"'),
        ("pgreact.enqueue('t', run_at => 'infinity')", "run_at is infinity, beyond the calendar"),
        ("pgreact.enqueue('t', run_at => '-infinity')", "run_at is -infinity, beyond the calendar"),
        ("pgreact.enqueue('t', expires => '20000-01-01Z')", "expires is .*20000.*, beyond the calendar"),
        ("pgreact.enqueue('t', backoff => '4000 days')", "nor beyond 3650 days"),
        ("pgreact.enqueue('t', key => repeat('k', 1001))", "key takes 1001 bytes; the limit is 1000"),
        ("pgreact.enqueue('t', unique_key => repeat('ä', 501))", "unique_key takes 1002 bytes"),
        ("pgreact.enqueue(e't\\x1b[31m')", "control character: .t.u001b.31m"),
        ("pgreact.enqueue(e't\\u009b31m')", "control character"),
        (
            "pgreact.enqueue('t', options => jsonb_build_object('shadow', repeat('x', 1048576)))",
            "limit is 1 MiB",
        ),
        (
            f"pgreact.enqueue('t', args => '[{', '.join(['1e131000'] * 9)}]')",
            "the limit is 1 MiB",
        ),
        ('pgreact.enqueue_many(\'[{"task": "t", "run_at": "infinity"}]\')', "beyond the calendar"),
        ("pgreact.enqueue('t', args => jsonb_build_array(repeat('x', 10000000)))", "the limit is 1 MiB"),
        ("pgreact.enqueue_many('{}')", "jobs is not a JSON array"),
        ("pgreact.enqueue_many('[1]')", "a job is a JSON number"),
        ('pgreact.enqueue_many(\'[{"task": "t", "lain": "x"}]\')', 'a job has no "lain"'),
        ('pgreact.enqueue_many(\'[{"task": "t"}, {}]\')', "a job needs the name of a task"),
    ],
)
def test_invalid_jobs_are_refused_when_enqueued(queue: Queue, call: str, message: str) -> None:
    with pytest.raises(psycopg.Error, match=message):
        queue.run(f"select {call}")
    assert queue.value("select count(*) from pgreact.queue") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ('{"time_limit": "abc"}', 'option "time_limit" is "abc", not a number of seconds'),
        ('{"time_limit": [5]}', 'option "time_limit"'),
        ('{"soft_time_limit": -1}', 'option "soft_time_limit"'),
        ('{"time_limit": 1e300}', 'option "time_limit"'),
        ('{"priority": "high"}', 'option "priority" is "high", not a whole number from 0 to 255'),
        ('{"priority": 1.5}', 'option "priority"'),
        ('{"priority": 256}', 'option "priority"'),
        ('{"expires": "soon"}', 'option "expires" is "soon", not a number of seconds, or a time like'),
        ('{"expires": "2026-02-31T00:00Z"}', "out of range"),
        ('{"expires": true}', 'option "expires"'),
        ('{"queue": [1]}', 'option "queue" is .1., not a text'),
        ('{"queue": "q", "exchange": 5}', 'option "exchange" is 5, not a text'),
        ('{"ignore_result": "no"}', 'option "ignore_result" is "no", not true or false'),
        ('{"delivery_mode": 3}', 'option "delivery_mode"'),
        ('{"headers": []}', 'option "headers" is .., not an object'),
        ('{"headers": {"pgreact_job": 1}}', "a header has a name reserved by Celery or pgreact"),
        ('{"headers": {"_protected": 1}}', "a header has a name reserved"),
        ('{"link": "t"}', 'option "link" is "t", not a signature or a list of them'),
        ('{"link_error": [{"task": "t"}, {}]}', 'option "link_error"'),
        ('{"chain": {"task": "t"}}', 'option "chain"'),
        ('{"chord": []}', 'option "chord"'),
        ('{"stamped_headers": "a"}', 'option "stamped_headers"'),
        ('{"stamped_headers": ["a"]}', 'option "stamped_headers"'),
        ('{"stamped_headers": ["eta"], "eta": 1}', 'option "stamped_headers"'),
        ('{"stamped_headers": ["task_type"], "task_type": 1}', 'no option "task_type"'),
        ('{"task_id": null}', 'no option "task_id"'),
        ('{"correlation_id": 5}', 'option "correlation_id" is 5, not a text'),
        ('{"expiration": "1"}', 'option "expiration" is "1", not a number of seconds'),
        ('{"timestamp": 1.5}', 'option "timestamp" is 1.5, not a whole number from 0 on'),
        ('{"": 1}', "the name of an option has 0 characters, not 1 to 128"),
        (json.dumps({"x" * 129: 1}), "the name of an option has 129 characters, not 1 to 128"),
    ],
)
def test_options_that_no_worker_could_handle_are_refused(queue: Queue, options: str, message: str) -> None:
    with pytest.raises(psycopg.Error, match=message):
        queue.value("select pgreact.enqueue('t', options => %s)", options)


def test_options_that_celery_takes_are_taken(queue: Queue) -> None:
    options = {
        "queue": "q",
        "priority": 9,
        "headers": {"traceparent": "00-ab", "tenant": {"id": 1}},
        "expires": "2026-03-29T09:00:00.5+02:00",
        "time_limit": 1.5,
        "soft_time_limit": None,
        "ignore_result": True,
        "delivery_mode": "transient",
        "link": [{"task": "t"}],
        "chain": [],
        "stamped_headers": ["customer"],
        "customer": 5,
        # of brokers
        "MessageGroupId": "orders",
        "MessageAttributes": {"a": {"DataType": "Number", "StringValue": "1"}},
        "DelaySeconds": 3,
        "correlation_id": "c",
        "timestamp": 1770000000,
    }
    assert queue.value("select pgreact.enqueue('t', options => %s)", json.dumps(options))


@pytest.mark.parametrize(
    "call",
    [
        Celery.send_task,
        Task.apply_async,
        AMQP.as_task_v1,
        AMQP.as_task_v2,
        Celery(set_as_current=False).amqp.send_task_message,
        Producer.publish,
    ],
    ids=lambda call: call.__qualname__,
)
def test_no_option_that_celery_or_kombu_name_goes_unchecked(queue: Queue, call: Callable[..., Any]) -> None:
    kinds = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    names = [name for name, found in inspect.signature(call).parameters.items() if found.kind not in kinds]
    assert names
    for name in names:
        # an object is nothing that any of them takes, but for one
        wrong = [] if name == "headers" else {"an": "object"}
        with pytest.raises(psycopg.Error, match=f'(no )?option "{name}"'):
            queue.value("select pgreact.enqueue('t', options => %s)", json.dumps({name: wrong}))


def test_no_header_of_celerys_own_is_taken(queue: Queue) -> None:
    message = Celery(set_as_current=False).amqp.as_task_v2("id", "t")
    for name in {*message.headers, *vars(Context)}:
        with pytest.raises(psycopg.Error, match="a header has a name reserved"):
            queue.value("select pgreact.enqueue('t', options => %s)", json.dumps({"headers": {name: 1}}))


def test_options_of_a_route_are_checked_as_a_jobs_are(queue: Queue) -> None:
    for options, message in (
        ('{"time_limit": "abc"}', 'route wrong: option "time_limit" is "abc"'),
        ('{"headers": {"task": "other"}}', "route wrong: a header has a name reserved"),
        ('{"eta": 1}', 'route wrong: no option "eta"'),
        (f'{{"args": [{"9" * 5000}]}}', "a number of 4,000 digits"),
        (f'{{"args": {"[" * 300}{"]" * 300}}}', "more than 200 levels"),
    ):
        with pytest.raises(psycopg.Error, match=message):
            queue.value("insert into pgreact.route (name, task, options) values ('wrong', 't', %s)", options)


def test_a_lane_can_be_held_to_a_list_of_tasks(queue: Queue) -> None:
    queue.run(
        "insert into pgreact.lane (name, tasks) values ('mail', '{send}')",
        "create table if not exists changed (id int primary key)",
    )
    assert queue.add("send", lane="'mail'")
    assert queue.add("other")
    for refused in (
        "select pgreact.enqueue('other', lane => 'mail')",
        "select pgreact.attach('changed', enqueue => 'other', lane => 'mail')",
        "insert into pgreact.schedule (name, task, every, lane) values ('s', 'other', '1 h', 'mail')",
    ):
        with pytest.raises(
            psycopg.errors.InsufficientPrivilege, match='lane "mail" does not take task other'
        ):
            queue.run(refused)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not call other tasks"):
        queue.add("send", lane="'mail'", options='\'{"link": {"task": "other"}}\'')
    queue.run("update pgreact.lane set tasks = '{send}' where name = 'default'")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match='lane "default" does not take task other'):
        queue.run("insert into pgreact.schedule (name, task, every) values ('s', 'other', '1 h')")


def test_a_rate_that_no_clock_could_count_is_refused(queue: Queue) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        queue.run("update pgreact.lane set rate = 1e-14")
    queue.run("update pgreact.lane set rate = 1e-6")
    queue.add(), queue.add()
    assert len(queue.claim()["jobs"]) == 1
    assert 0 < queue.claim()["next_s"] <= 86400


def test_many_are_enqueued_in_order_by_one_statement(queue: Queue) -> None:
    jobs = json.dumps([{"task": "a"}, {"task": "b", "key": "k", "backoff": "3 s", "kwargs": {"x": 1}}])
    with queue.connect() as connection:
        ids = [row[0] for row in connection.execute("select id from pgreact.enqueue_many(%s)", (jobs,))]
        rows = connection.execute(
            "select id, task, key, backoff::text from pgreact.queue order by id"
        ).fetchall()
    assert rows == [(ids[0], "a", None, "00:00:05"), (ids[1], "b", "k", "00:00:03")]


def test_lists_that_name_unique_keys_in_opposite_orders_do_not_deadlock(queue: Queue) -> None:
    def many(*keys: str) -> str:
        return json.dumps([{"task": "t", "unique_key": key} for key in keys])

    found: dict[str, list[int]] = {}

    def enqueue(name: str, jobs: str) -> None:
        with queue.connect() as connection:
            found[name] = [
                row[0] for row in connection.execute("select id from pgreact.enqueue_many(%s)", (jobs,))
            ]

    waits = (
        "select count(*) = {} from pg_stat_activity where datname = current_database()"
        " and wait_event_type = 'Lock'"
    )
    with queue.connect(autocommit=False) as holder:
        holder.execute("select pgreact.enqueue('t', unique_key => 'm')")
        threads = []
        for name, keys in (("one", "amz"), ("other", "zma")):
            threads.append(threading.Thread(target=enqueue, args=(name, many(*keys))))
            threads[-1].start()
            queue.until(waits.format(len(threads)))
        holder.rollback()
    for thread in threads:
        thread.join(20)
    assert found["other"] == list(reversed(found["one"]))


def test_ids_of_a_list_are_in_its_order_whatever_its_unique_keys(queue: Queue) -> None:
    jobs = json.dumps([{"task": "t", "key": "k", "unique_key": key} for key in "zxya"])
    with queue.connect() as connection:
        ids = [row[0] for row in connection.execute("select id from pgreact.enqueue_many(%s)", (jobs,))]
        rows = connection.execute("select id, unique_key from pgreact.queue order by id").fetchall()
    assert rows == list(zip(ids, "zxya", strict=True))


def test_there_is_one_queued_job_of_a_unique_key(queue: Queue) -> None:
    first = queue.add(unique_key="'u'")
    assert queue.add(unique_key="'u'") == first
    assert queue.claimed() == [first]
    second = queue.add(unique_key="'u'")  # the first is no longer queued
    assert second != first
    queue.settle(first, "failed")  # goes back, and leaves the name to the other one
    assert queue.value("select unique_key from pgreact.queue where id = %s", first) is None


def test_a_unique_key_can_hold_while_in_progress(queue: Queue) -> None:
    first = queue.add(unique_key="'u'", unique_while="'in_progress'")
    assert queue.claimed() == [first]
    assert queue.add(unique_key="'u'", unique_while="'in_progress'") == first
    assert queue.value("select count(*) from pgreact.queue") == 0
    queue.settle(first)
    assert queue.add(unique_key="'u'", unique_while="'in_progress'") != first


# ---- limits and turns --------------------------------------------------------------------------------------


def test_the_limit_of_all_lanes_together_holds(queue: Queue) -> None:
    queue.run("update pgreact.queue_setting set max_in_progress = 3")
    jobs = [queue.add() for _ in range(5)]
    assert queue.claimed() == jobs[:3]
    assert queue.claimed() == []
    queue.settle(jobs[0])
    assert queue.claimed() == [jobs[3]]


def test_the_limit_of_a_lane_holds_and_holds_up_no_other(queue: Queue) -> None:
    queue.run("insert into pgreact.lane (name, max_in_progress) values ('slow', 2), ('none', 0)")
    for lane in ("slow", "none", "default"):
        for _ in range(4):
            queue.add(lane=f"'{lane}'")
    assert sorted(queue.lanes()) == ["default"] * 4 + ["slow"] * 2
    assert queue.lanes() == []
    queue.run("update pgreact.lane set max_in_progress = 3 where name = 'slow'")
    assert queue.lanes() == ["slow"]


@pytest.mark.parametrize("limited", ["queue_setting", "lane"])
def test_claim_reports_unstarted_jobs_that_take_all_places(queue: Queue, limited: str) -> None:
    queue.run(f"update pgreact.{limited} set max_in_progress = 3")
    for _ in range(5):
        queue.add()
    answer = queue.claim()
    # in a lane with a limit of its own a freed place may be idle, unless messages have waited for a worker
    assert answer["waiting"] == (3 if limited == "queue_setting" else 0)
    queue.run("update pgreact.in_progress set published_at = published_at - interval '1 h'")
    first = answer["jobs"][0]["id"]
    assert queue.start(answer["jobs"][1]["id"])
    assert queue.start(first)
    assert queue.settle(first)
    answer = queue.claim()
    assert (answer["claimed"], answer["waiting"]) == (1, 2), answer
    assert queue.claim()["waiting"] == 0  # which took none


@pytest.mark.parametrize(
    "other",
    [
        "update pgreact.queue_setting set max_in_progress = null",
        "update pgreact.lane set rate = 1000, burst = 1000",
        "insert into pgreact.queue (lane, task) select 'elsewhere', 't' from generate_series(1, 5)",
        "select pgreact.enqueue('t', key => 'k', priority => 9)",
    ],
)
def test_a_dispatch_hurries_where_another_may_wait_for_one_place(queue: Queue, other: str) -> None:
    queue.run("update pgreact.queue_setting set max_in_progress = 3")
    for _ in range(5):
        queue.add()
    queue.run(other)
    answer = queue.claim()
    assert answer["claimed"] >= 3
    assert answer["waiting"] == 0


def test_a_dispatch_hurries_while_there_are_places_or_nothing_is_ready(queue: Queue) -> None:
    queue.run("update pgreact.queue_setting set max_in_progress = 3")
    for _ in range(3):
        queue.add()
    assert queue.claim(2)["waiting"] == 0
    assert queue.claim(2)["waiting"] == 0


def test_a_paused_lane_gives_nothing(queue: Queue) -> None:
    queue.run("update pgreact.lane set paused = true")
    job = queue.add()
    assert queue.claimed() == []
    queue.run("update pgreact.lane set paused = false")
    assert queue.claimed() == [job]


def test_within_a_lane_priority_comes_first_then_time_then_id(queue: Queue) -> None:
    low = queue.add(priority="-1")
    early = queue.add(run_at="'2020-01-02'")
    earlier = queue.add(run_at="'2020-01-01'")
    high = queue.add(priority="5")
    last = queue.add()
    assert [queue.claimed(1)[0] for _ in range(5)] == [high, earlier, early, last, low]


def test_lanes_take_turns_by_weight(queue: Queue) -> None:
    queue.run("insert into pgreact.lane (name, weight) values ('heavy', 3), ('light', 1)")
    for _ in range(60):
        queue.add(lane="'light'")
    for _ in range(60):
        queue.add(lane="'heavy'")
    seen = [lane for _ in range(40) for lane in queue.lanes(1)]
    assert seen.count("heavy") == pytest.approx(30, abs=1)
    # and no prefix of it starves the light one
    assert all("light" in seen[index : index + 5] for index in range(35))


def test_a_lane_that_was_idle_gets_its_share_and_no_more(queue: Queue) -> None:
    queue.run(
        "insert into pgreact.lane (name) values ('late')",
        "update pgreact.lane set max_unstarted = 9999",
    )
    for _ in range(300):
        queue.add()
    queue.claimed(200)
    for _ in range(50):
        queue.add(lane="'late'")
    assert 9 <= [lane for _ in range(20) for lane in queue.lanes(1)].count("late") <= 11


def test_a_rate_is_never_exceeded_and_the_next_token_is_a_timer(queue: Queue) -> None:
    queue.run("insert into pgreact.lane (name, rate, burst) values ('r', 4, 2)")
    for _ in range(8):
        queue.add(lane="'r'")
    first = queue.claim()
    assert len(first["jobs"]) == 2
    assert first["next_s"] == pytest.approx(0.25, abs=0.1)
    with queue.connect() as connection:

        def all_claimed() -> bool:
            connection.execute("select pgreact.claim(100)")
            return connection.execute("select count(*) from pgreact.in_progress").fetchone() == (8,)

        eventually(all_claimed, "all are claimed")
        claims = [
            row[0]
            for row in connection.execute(
                "select extract(epoch from claimed_at)::float8 from pgreact.in_progress order by claimed_at"
            )
        ]
    # any n jobs within t seconds: n <= burst + rate * t
    for index, begin in enumerate(claims):
        for count, end in enumerate(claims[index:], 1):
            assert count <= 2 + 4 * (end - begin) + 0.01


def test_a_lane_without_a_row_has_no_limits(queue: Queue) -> None:
    queue.run("insert into pgreact.queue (lane, task) values ('gone', 't')")
    assert queue.lanes() == ["gone"]


def test_a_claim_agrees_with_the_plain_rule_for_any_backlog(queue: Queue) -> None:
    """The claim reads as little as it can; this reads everything."""
    dice = random.Random(20261121)
    names = [f"l{number}" for number in range(6)]
    with queue.connect() as connection:

        def rows(statement: str) -> list[tuple[Any, ...]]:
            return connection.execute(statement.encode()).fetchall()

        connection.execute("update pgreact.queue_setting set max_in_progress = null")
        for name in names:
            connection.execute(
                "insert into pgreact.lane (name, weight, max_in_progress, paused) values (%s, %s, %s, %s)",
                (name, dice.choice([1, 1, 2, 3, 10]), dice.choice([None, None, 3, 12]), dice.random() < 0.15),
            )
        for _ in range(60):
            for name in dice.sample(names, dice.randint(1, 4)):
                connection.execute(
                    "insert into pgreact.queue (lane, task, priority, run_at) "
                    "select %s, 't', (random() * 3)::int, now() - random() * interval '1 h' "
                    "from generate_series(1, %s)",
                    (name, dice.choice([1, 2, 7, 30])),
                )
            batch = dice.choice([1, 2, 5, 20, 100])
            ((now_at,),) = rows("select virtual_time from pgreact.queue_state")
            expected: list[tuple[float, int]] = []
            for name, weight, room, virtual_time in rows(
                "select l.name, l.weight, l.max_in_progress - (select count(*) from pgreact.in_progress p "
                "where p.lane = l.name), s.virtual_time from pgreact.lane l left join pgreact.lane_state s "
                "on s.lane = l.name where not l.paused"
            ):
                start = now_at if virtual_time is None else max(virtual_time, now_at)
                waiting = rows(
                    f"select id from pgreact.queue where lane = '{name}' order by priority desc, run_at, id"
                )
                for place, (job,) in enumerate(waiting[: None if room is None else max(0, room)]):
                    expected.append((start + place / weight, job))
            known = {job for (job,) in rows("select id from pgreact.in_progress")}
            connection.execute("select pgreact.claim(%s)", (batch,))
            claimed = {job for (job,) in rows("select id from pgreact.in_progress")} - known
            assert claimed == {job for _, job in sorted(expected)[:batch]}
            connection.execute("delete from pgreact.in_progress where random() < 0.5")


# ---- keys --------------------------------------------------------------------------------------------------


def test_of_one_key_one_is_in_progress_and_they_go_in_order(queue: Queue) -> None:
    jobs = [queue.add(key="'k'", priority=str(number)) for number in range(4)]
    other = queue.add(key="'l'")
    assert set(queue.claimed()) == {jobs[0], other}
    for before, after in itertools.pairwise(jobs):
        assert queue.claimed() == []
        queue.settle(before)
        assert queue.claimed() == [after]


def test_a_failed_attempt_keeps_its_place_before_the_others_of_its_key(queue: Queue) -> None:
    first, second = queue.add(key="'k'", max_attempts="2"), queue.add(key="'k'")
    assert queue.claimed() == [first]
    queue.settle(first, "failed")
    assert queue.claimed() == []  # the pause of the first holds up the second
    assert queue.value("select pgreact.retry(%s)", first)
    assert queue.claimed() == [first]
    queue.settle(first)
    assert queue.claimed() == [second]


@pytest.mark.parametrize("end", ["done", "invalid"])
def test_a_settled_job_unblocks_the_next_of_its_key(queue: Queue, end: str) -> None:
    first, second = queue.add(key="'k'"), queue.add(key="'k'")
    queue.claimed()
    queue.settle(first, end)
    assert queue.claimed() == [second]


def test_a_cancelled_job_lets_the_next_of_its_key_go(queue: Queue) -> None:
    first, second, third = (
        queue.add(key="'k'", run_at=when) for when in ("now() + interval '1 h'", "null", "null")
    )
    assert queue.claimed() == []
    assert queue.value("select pgreact.cancel(%s)", first) == "cancelled"
    assert queue.claimed() == [second]
    assert queue.value("select pgreact.cancel(%s)", second) == "cancelled"  # claimed, not started
    assert queue.claimed() == [third]


def test_a_hot_key_does_not_hold_up_the_others(queue: Queue) -> None:
    queue.run("select pgreact.enqueue('t', key => 'hot') from generate_series(1, 1500)")
    other = queue.add()
    found: list[int] = []
    more = True
    while more:
        answer = queue.claim()
        found += [job["id"] for job in answer["jobs"]]
        more = answer["more"]
    assert set(found) == {1, other}
    assert queue.value("select count(*) from pgreact.queue where state = 'ready'") == 0


def test_a_claim_beside_an_uncommitted_settle_leaves_no_key_blocked(queue: Queue) -> None:
    first, second = queue.add(key="'k'"), queue.add(key="'k'")
    assert queue.claimed() == [first]
    queue.run("update pgreact.queue set state = 'ready'")  # as if the claim had not looked at the second yet
    with queue.connect(autocommit=False) as worker:
        worker.execute("select pgreact.settle(id, claim_id, 'done') from pgreact.in_progress")
        assert queue.claimed() == []
        assert queue.state(second) == "ready", "the one before it is going: nobody would wake it later"
        worker.commit()
    assert queue.claimed() == [second]


def test_a_settle_beside_an_uncommitted_claim_leaves_no_key_blocked(queue: Queue) -> None:
    first, second = queue.add(key="'k'"), queue.add(key="'k'")
    assert queue.claimed() == [first]
    queue.run("update pgreact.queue set state = 'ready'")
    with queue.connect(autocommit=False) as dispatcher:
        dispatcher.execute("select pgreact.claim(100)")
        settled = threading.Thread(target=queue.settle, args=(first,))
        settled.start()
        queue.until(
            "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and query ~ 'settle')"
        )
        dispatcher.commit()
        settled.join()
    assert queue.claimed() == [second]


def test_a_claim_waits_for_no_user(queue: Queue) -> None:
    held, free = queue.add(), queue.add()
    with queue.connect(autocommit=False) as user:
        user.execute("update pgreact.queue set priority = 9 where id = %s", (held,))
        assert queue.claimed() == [free]
        user.rollback()
    assert queue.claimed() == [held]


# ---- time --------------------------------------------------------------------------------------------------


def test_a_delayed_job_waits_and_tells_when(queue: Queue) -> None:
    job = queue.add(run_at="clock_timestamp() + interval '300 ms'")
    answer = queue.claim()
    assert answer["jobs"] == []
    assert 0 < answer["next_s"] <= 0.3
    eventually(lambda: queue.claimed() == [job], "it is due")


def test_a_job_that_expired_is_dead_and_its_place_goes_to_another(queue: Queue) -> None:
    queue.run("update pgreact.queue_setting set max_in_progress = 1")
    late, other = queue.add(expires="now() - interval '1 s'"), queue.add()
    assert queue.claimed() == [other]
    assert queue.state(late) == "expired"


def test_a_claim_takes_limited_bytes_and_reports_more(queue: Queue) -> None:
    queue.run(
        "select pgreact.enqueue('t', args => jsonb_build_array(repeat('x', 1000000))) "
        "from generate_series(1, 12)",
        # past enqueue, so that none has measured it; and one that needs no room
        "insert into pgreact.queue (lane, task, args) "
        "select 'default', 't', jsonb_build_array(repeat('x', 1000000)) from generate_series(1, 8)",
        "select pgreact.enqueue('t')",
    )
    taken: list[int] = []
    while True:
        answer = queue.claim()
        taken += [job["id"] for job in answer["jobs"]]
        assert len(json.dumps(answer)) < 10_000_000
        if not answer["more"]:
            break
        assert answer["jobs"]
    assert taken == list(range(1, 22))


def test_all_passes_of_a_claim_share_its_bytes(queue: Queue) -> None:
    queue.run(
        "insert into pgreact.queue (task, lane, expires) values ('t', 'default', now() - interval '1 s')",
        "insert into pgreact.queue (task, lane, size) "
        "select 't', 'default', 1500000 from generate_series(1, 12)",
    )
    assert len(queue.claimed()) == 6, "the expired job makes for another pass"


def test_unpublished_jobs_bound_the_bytes_of_a_claim(queue: Queue) -> None:
    queue.run(
        "select pgreact.enqueue('t', args => jsonb_build_array(repeat('x', 1000000))) "
        "from generate_series(1, 30)"
    )
    first = queue.value("select pgreact.claim(100)")
    queue.run("select pgreact.unpublished()")
    second = queue.value("select pgreact.claim(100)")
    assert first["jobs"] == second["jobs"]
    assert (second["claimed"], second["more"]) == (0, True)
    assert queue.value("select count(*) from pgreact.in_progress") == len(first["jobs"]) == 9


def test_rows_at_the_ends_of_their_types_are_claimed_like_others(queue: Queue) -> None:
    queue.run(
        "insert into pgreact.queue "
        "(id, lane, task, run_at, expires, attempt, max_attempts, priority, enqueued_at) values "
        "(9223372036854775807, 'default', 't', '-infinity', 'infinity', 2147483647, 2147483647, 2147483647, "
        "'infinity'),"
        " (7, 'default', 't', '-infinity', '30000-01-01Z', 0, 1, -2147483648, '-infinity')",
        "insert into pgreact.queue (id, task, state, run_at) values (8, 't', 'delayed', 'infinity')",
    )
    assert queue.claimed() == [9223372036854775807, 7]
    queue.run("update pgreact.in_progress set lease_until = 'infinity'")
    assert 0 < queue.claim()["next_s"] <= 86400
    queue.run(
        "update pgreact.in_progress "
        "set backoff = '178000000 years', attempt = 40, max_attempts = 50 where id = 7"
    )
    assert queue.settle(7, "failed")


def test_a_lane_that_was_idle_over_night_goes_on(queue: Queue) -> None:
    queue.add(), queue.claim()
    for hours in (13, 40, 24 * 365):
        queue.run(f"update pgreact.lane_state set recent_at = now() - interval '{hours} h'")
        assert queue.value(query("queue_lanes").replace("n.lane as name", "n.lane")) is not None
        job = queue.add()
        assert queue.claimed() == [job]


# ---- attempts and leases -----------------------------------------------------------------------------------


def test_attempts_pause_longer_each_time_and_then_the_job_is_dead(queue: Queue) -> None:
    job = queue.add(max_attempts="3", backoff="'10 s'")
    pauses = []
    for _ in range(2):
        queue.claimed()
        queue.settle(job, "failed", "ValueError: no")
        pauses.append(
            queue.value("select extract(epoch from run_at - clock_timestamp())::float8 from pgreact.queue")
        )
        queue.value("select pgreact.retry(%s)", job)
    assert pauses == [pytest.approx(10, abs=1), pytest.approx(20, abs=1)]
    queue.claimed()
    queue.settle(job, "failed", "ValueError: no")
    assert (
        queue.value("select (outcome, error, attempt)::text from pgreact.dead")
        == '(failed,"ValueError: no",3)'
    )
    assert queue.value("select pgreact.retry(%s)", job)
    assert queue.claim()["jobs"][0]["attempt"] == 1


def test_an_attempt_is_started_once(queue: Queue) -> None:
    job = queue.add()
    queue.claimed()
    assert queue.start(job)
    assert not queue.start(job)
    assert queue.start(job, retries=1)  # the task asked for it
    assert not queue.start(job)


def test_a_late_word_about_an_earlier_attempt_changes_nothing(queue: Queue) -> None:
    job = queue.add()
    old = queue.claim()["jobs"][0]["claim_id"]
    queue.settle(job, "lost")
    assert queue.claimed() == [job]
    assert queue.value("select pgreact.settle(%s, %s::uuid, 'done')", job, old) is False
    assert queue.value("select pgreact.start(%s, %s::uuid, 0, 'w') is not null", job, old) is False
    assert queue.state(job) == "in progress"


def test_a_worker_that_does_not_renew_loses_the_attempt(queue: Queue) -> None:
    job = queue.add()
    queue.claimed()
    queue.start(job)
    queue.run("update pgreact.in_progress set lease_until = clock_timestamp()")
    (again,) = queue.claim()["jobs"]
    assert (again["id"], again["attempt"]) == (job, 2)


def test_an_unstarted_message_is_published_again_ever_later(queue: Queue) -> None:
    job = queue.add()
    task_id = queue.claim()["jobs"][0]["task_id"]
    leases = []
    for _ in range(3):
        assert queue.claimed() == []
        queue.run("update pgreact.in_progress set lease_until = clock_timestamp()")
        (again,) = queue.claim()["jobs"]
        assert (again["id"], again["task_id"], again["attempt"]) == (job, task_id, 1)
        leases.append(
            queue.value(
                "select extract(epoch from lease_until - clock_timestamp())::float8 from pgreact.in_progress"
            )
        )
    assert leases == [pytest.approx(seconds, abs=1) for seconds in (120, 240, 480)]


def test_a_job_that_expired_is_not_published_again(queue: Queue) -> None:
    lost, untold = queue.add(), queue.add()
    queue.claimed()
    queue.run(
        f"update pgreact.in_progress set expires = now(), lease_until = now() where id = {lost}",
        f"update pgreact.in_progress set expires = now(), published_at = null where id = {untold}",
    )
    assert queue.claimed() == []
    assert (queue.state(lost), queue.state(untold)) == ("expired", "expired")


def test_a_running_job_outlives_its_expiry(queue: Queue) -> None:
    job = queue.add()
    queue.claimed()
    queue.start(job)
    queue.run("update pgreact.in_progress set expires = now()")
    assert queue.claimed() == []
    assert queue.state(job) == "in progress"


def test_an_attempt_that_no_worker_ever_starts_is_dead_after_a_week(queue: Queue) -> None:
    def end_of_lease(ago: str) -> str | None:
        queue.run(
            f"update pgreact.in_progress set lease_until = now(), claimed_at = now() - interval '{ago}'"
        )
        queue.claim()
        return queue.state(job)

    job = queue.add()
    queue.claimed()
    # whatever its age, the workers have the time of all the leases that grow
    assert [end_of_lease("8 days") for _ in range(6)] == ["in progress"] * 6
    assert end_of_lease("6 days") == "in progress"
    assert end_of_lease("8 days") == "unstarted"
    assert "its message was sent 8 times" in queue.value("select error from pgreact.dead")


def test_a_message_that_the_broker_never_took_does_not_count(queue: Queue) -> None:
    job = queue.add()
    queue.claim()
    for _ in range(9):
        queue.run(
            "select pgreact.unpublished(array_agg(claim_id)) from pgreact.in_progress",
            "update pgreact.in_progress set lease_until = now(), claimed_at = now() - interval '8 days'",
        )
        assert queue.claimed() == [job]
    assert queue.state(job) == "in progress"
    assert queue.value("select publishes from pgreact.in_progress") == 0


def test_the_next_lease_that_ends_is_a_timer(queue: Queue) -> None:
    queue.add()
    assert queue.claim()["next_s"] == pytest.approx(60, abs=1)
    queue.run("update pgreact.in_progress set lease_until = clock_timestamp() + interval '30 s'")
    assert queue.claim()["next_s"] == pytest.approx(30, abs=1)
    queue.add()
    assert queue.claim()["next_s"] == pytest.approx(30, abs=1)


def test_the_next_claim_returns_unpublished_attempts_once(queue: Queue) -> None:
    job = queue.add()
    (first,) = queue.claim()["jobs"]
    queue.run("select pgreact.unpublished()")
    later = queue.add()
    second, other = queue.claim()["jobs"]
    assert (first["id"], other["id"]) == (job, later)
    assert first == second
    assert queue.claimed() == []


def test_a_new_leader_finds_all_that_the_last_claim_returned(queue: Queue) -> None:
    old, started = queue.add(), queue.add()
    queue.claim()
    queue.start(started)
    queue.claim()  # one that found nothing, before the leader died
    queue.run("select pgreact.unpublished()")
    new = queue.add()
    assert queue.claimed() == [old, new]
    queue.run("select pgreact.unpublished()")
    assert queue.claimed() == [old, new], "both the attempt that was sent again, and the one just claimed"
    queue.run("select pgreact.unpublished()")
    assert queue.start(new), "a message that was sent all the same"
    assert queue.claimed() == [old]


def test_the_hop_through_the_leader_is_what_the_message_says(queue: Queue) -> None:
    job = queue.add()
    queue.claim()
    queue.run(
        "update pgreact.in_progress set claimed_at = claimed_at - interval '10 s', "
        "published_at = published_at - interval '10 s'"
    )
    queue.run(f"select pgreact.start(id, claim_id, 0, 'w', 4) from pgreact.in_progress where id = {job}")
    queue.settle(job)
    hops = "array[round(publish_s)::integer, round(broker_s)::integer]"
    assert queue.value(f"select {hops} from pgreact.settled where outcome = 'done'") == [4, 6]


def test_a_renewed_lease_lasts(queue: Queue) -> None:
    job = queue.add()
    queue.claimed()
    queue.start(job)
    queue.run(
        "update pgreact.in_progress set lease_until = clock_timestamp()",
        "select pgreact.renew(array_agg(id), array_agg(claim_id)) from pgreact.in_progress",
    )
    assert queue.claimed() == []
    assert queue.state(job) == "in progress"


def test_a_retry_of_the_task_itself_keeps_the_job_in_progress_for_its_pause(queue: Queue) -> None:
    job = queue.add()
    queue.claimed()
    queue.start(job)
    queue.run("select pgreact.snooze(id, claim_id, '100 s', false) from pgreact.in_progress")
    left = queue.value(
        "select extract(epoch from lease_until - clock_timestamp())::float8 from pgreact.in_progress"
    )
    assert left == pytest.approx(160, abs=1)
    assert queue.start(job, retries=1)


def test_cancel_returns_what_it_did(queue: Queue) -> None:
    job = queue.add()
    queue.claimed()
    queue.start(job)
    assert queue.value("select pgreact.cancel(%s)", job) == "started"
    queue.settle(job, "failed")
    assert queue.state(job) == "failed", "it is not tried again"
    assert queue.value("select pgreact.cancel(%s)", job) is None


# ---- history and cost --------------------------------------------------------------------------------------


def test_history_keeps_attempts_by_the_day_and_drops_whole_days(queue: Queue) -> None:
    queue.run("update pgreact.queue_setting set retention = '2 days'", "select pgreact.maintain_history()")
    job = queue.add()
    queue.claimed()
    queue.start(job)
    queue.settle(job)
    assert (
        queue.value("select (id, outcome, attempt, worker)::text from pgreact.history") == f"({job},done,1,w)"
    )
    queue.run(
        "create table pgreact.history_20200101 partition of pgreact.history "
        "for values from ('2020-01-01') to ('2020-01-02')",
        "select pgreact.maintain_history()",
    )
    assert queue.value("select to_regclass('pgreact.history_20200101')") is None
    assert queue.value("select count(*) from pgreact.history") == 1
    queue.run("update pgreact.queue_setting set retention = null")


def test_history_and_dead_rows_hold_the_job_whether_it_waited_or_ran(queue: Queue) -> None:
    queue.run("update pgreact.queue_setting set retention = '2 days'", "select pgreact.maintain_history()")
    given = {
        "args": "'[1]'", "kwargs": "'{\"a\": 2}'", "priority": "3", "max_attempts": "4", "max_lost": "5",
        "backoff": "'7 s'", "options": "'{\"priority\": 6}'", "task_id": f"'{UUID}'",
    }  # fmt: skip
    waited, ran = (queue.add(key=f"'{key}'", **given) for key in ("waited", "ran"))
    queue.run(f"select pgreact.drop_job({waited}, 'expired', 'late')")
    queue.claimed()
    queue.start(ran)
    queue.settle(ran, "rejected", "no")
    with queue.connect() as connection:
        dead = connection.execute(
            "select id, lane, task, args, kwargs, priority, key, attempt, max_attempts, max_lost, "
            "extract(epoch from backoff)::integer, options, task_id::text, enqueued_at < died_at, outcome, "
            "error from pgreact.dead order by id"
        ).fetchall()
        history = connection.execute(
            "select id, lane, task, key, attempt, outcome, error, task_id::text, worker, "
            "claimed_at > enqueued_at, started_at >= claimed_at, settled_at > enqueued_at "
            "from pgreact.history order by id"
        ).fetchall()
    kept = ([1], {"a": 2}, 3)
    limits = (4, 5, 7, {"priority": 6}, UUID, True)
    assert dead == [
        (waited, "default", "t", *kept, "waited", 0, *limits, "expired", "late"),
        (ran, "default", "t", *kept, "ran", 1, *limits, "rejected", "no"),
    ]
    assert history == [
        (waited, "default", "t", "waited", 0, "expired", "late", UUID, None, None, None, True),
        (ran, "default", "t", "ran", 1, "rejected", "no", UUID, "w", True, True, True),
    ]
    queue.run("update pgreact.queue_setting set retention = null")


def test_a_job_is_settled_though_the_history_has_no_partition(queue: Queue) -> None:
    job = queue.add()
    queue.claimed()
    queue.run("update pgreact.queue_setting set retention = '90 days'")
    with queue.connect() as connection:
        for (name,) in connection.execute(
            "select inhrelid::regclass::text from pg_inherits "
            "where inhparent = 'pgreact.history'::regclass and inhrelid::regclass::text ~ '\\d$'"
        ).fetchall():
            connection.execute(f"drop table {name}".encode())
    assert queue.settle(job)
    assert queue.state(job) is None


def test_a_claim_never_reads_the_whole_queue(queue: Queue) -> None:
    queue.run(
        "insert into pgreact.lane (name, paused) values ('paused', true)",
        "insert into pgreact.queue (lane, task, key, state, run_at) "
        "select case n % 4 when 0 then 'paused' else 'default' end, 't', "
        "case n % 3 when 0 then 'k' || n % 50 end, "
        "case n % 10 when 0 then 'delayed' else 'ready' end,"
        " case n % 10 when 0 then now() + interval '1 h' else now() end from generate_series(1, 50000) n",
        "analyze pgreact.queue",
    )
    scans = "select seq_scan from pg_stat_user_tables where relid = 'pgreact.queue'::regclass"
    with queue.connect() as connection:
        read = lambda statement: (connection.execute(statement.encode()).fetchone() or [None])[0]  # noqa: E731
        flush = "select pg_stat_force_next_flush()"
        if connection.info.server_version >= 150000:
            read(flush)
        before = read(scans)
        for _ in range(3):
            read("select pgreact.claim(100)")
            connection.execute("delete from pgreact.in_progress")
            if connection.info.server_version >= 150000:
                read(flush)
        eventually(lambda: read("select claimed > 0 from pgreact.lane_state"), "something was claimed")
        assert read(scans) == before
