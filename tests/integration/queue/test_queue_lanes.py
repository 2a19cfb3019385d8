"""Lanes: one for each Celery queue, what holds a place in them, what waits, expires, and is repeated."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgreact.queue import views as overview
from tests.harness import Daemon, Database, Inbox
from tests.queue_steps import Queue

Start = Callable[..., Daemon]
Install = Callable[..., None]


@pytest.fixture
def queue(steps: Queue) -> Queue:
    """An empty queue."""
    return steps


def many(steps: Queue, count: int, **options: object) -> None:
    """Enqueue jobs that name no lane."""
    steps.run(
        f"select pgreact.enqueue('elsewhere', options => '{json.dumps(options)}') "
        f"from generate_series(1, {count})"
    )


def retry(queue: Queue, job: int, pause: str = "100 s", **message: object) -> bool:
    """A run's task asks to be run again."""
    resume = {"task": "t", "args": [2], "kwargs": {}, "options": {}, "retries": 1, "before": 0, **message}
    found: bool = queue.value(
        "select pgreact.postpone(id, claim_id, retries, %s, %s, 'because') from pgreact.in_progress "
        "where id = %s",
        pause,
        json.dumps(resume),
        job,
    )
    return found


# ---- lanes of Celery queues --------------------------------------------------------------------------------


def test_jobs_of_an_unconsumed_queue_delay_no_other(queue: Queue) -> None:
    many(queue, 450, queue="nobody")
    while queue.claim()["claimed"]:
        pass
    assert queue.value("select count(*) from pgreact.in_progress") == 200, "the broker is not flooded"
    many(queue, 3, queue="mail")
    assert queue.lanes() == ["mail"] * 3


def test_a_job_that_names_no_lane_is_of_its_celery_queues(queue: Queue) -> None:
    queue.run(
        "insert into pgreact.task (name, queue) values ('routed', 'slow:one')",
        "select pgreact.enqueue('routed')",
        "select pgreact.enqueue('routed', options => '{\"queue\": \"fast\"}')",
        "select pgreact.enqueue('routed', lane => 'default')",
        'select pgreact.enqueue_many(\'[{"task": "routed"}]\')',
    )
    assert queue.value("select array_agg(lane order by id) from pgreact.queue") == [
        "slow:one",
        "fast",
        "default",
        "slow:one",
    ]
    queue.claim()
    assert queue.value("select array_agg(name || ' ' || origin order by name) from pgreact.lane") == [
        "default sql",
        "fast queue",
        "slow:one queue",
    ]


def test_a_lane_of_a_celery_queue_takes_limits_like_others(queue: Queue) -> None:
    many(queue, 9, queue="q")
    queue.claim(1)
    queue.run("update pgreact.lane set max_in_progress = 4 where name = 'q'")
    assert len(queue.claimed()) == 3
    queue.run("update pgreact.lane set max_in_progress = null, max_unstarted = 6 where name = 'q'")
    assert len(queue.claimed()) == 2


def test_a_job_of_an_unknown_task_waits_for_its_route_and_blocks_no_other(queue: Queue) -> None:
    queue.run("select pgreact.enqueue('new', priority => 9)", "select pgreact.enqueue('new')")
    other = queue.add()
    answer = queue.claim()
    assert ([job["id"] for job in answer["jobs"]], answer["unrouted"]) == ([other], ["new"])
    route = '[{"name": "new", "queue": "q", "expires": 60}]'
    assert queue.value("select pgreact.route_tasks(%s)", route) == 2
    assert queue.lanes() == ["q", "q"]
    assert queue.value("select bool_and(expires - enqueued_at = '1 min') from pgreact.in_progress")
    assert queue.claim()["unrouted"] is None


def test_outbox_and_schedules_go_to_the_lane_of_the_celery_queue(queue: Queue) -> None:
    queue.run(
        "insert into pgreact.task (name, queue) values ('changed', 'reports')",
        "create table if not exists rows (id int primary key)",
        "select pgreact.attach('rows', enqueue => 'changed')",
        "insert into rows values (1)",
        "insert into pgreact.schedule (name, task, every) values ('s', 'changed', '1 h')",
        "select pgreact.fire(jsonb_build_array(jsonb_build_object('id', id, 'revision', revision, "
        "'state', 'planned', 'occurrences', array[now()]))) from pgreact.schedule",
    )
    assert queue.value("select array_agg(lane) from pgreact.queue") == ["reports", "reports"]
    queue.run("drop table rows", "delete from pgreact.outbox", "delete from pgreact.schedule")


def test_the_list_of_lane_default_cannot_be_led_around_by_a_queue(queue: Queue) -> None:
    queue.run("update pgreact.lane set tasks = '{t}' where name = 'default'")
    other = "select pgreact.enqueue('other', options => '{\"queue\": \"q\"}')"
    for made in (False, True):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="does not take task other"):
            queue.run(other)
        if not made:
            queue.run("insert into pgreact.lane (name, origin) values ('q', 'queue')")
    queue.run("update pgreact.lane set tasks = '{other}' where name = 'q'", other)


def test_the_application_routes_jobs_that_were_there_before_the_leader(
    database: Database, inbox: Inbox, installed: Install, daemons: Start, tmp_path: Path
) -> None:
    installed(database)
    (tmp_path / "routed_app.py").write_text(
        "from celery import Celery\n"
        "app = Celery('routed', set_as_current=False)\n"
        f"app.conf.update(task_default_queue='nobody', task_routes={{'mail.*': '{inbox.queue}'}})\n"
        f"@app.task(name='own', queue='{inbox.queue}', expires=3600)\n"
        "def own(): ...\n"
    )
    database.run("select pgreact.enqueue('t') from generate_series(1, 250)")
    mail = database.value("select pgreact.enqueue('mail.send')")
    daemons(database.dsn, inbox.url, environ={"PGREACT_APP": "routed_app:app"}).ready()
    assert inbox.take()["pgreact_job"] == mail
    own = database.value("select pgreact.enqueue('own')")
    message = inbox.take()
    assert (message["pgreact_job"], message["expires"]) == (own, None)
    assert database.value("select expires - enqueued_at = '1 h' from pgreact.in_progress where task = 'own'")
    database.until("select count(*) = 200 from pgreact.in_progress where lane = 'nobody'")
    again = database.value("select pgreact.enqueue('mail.again')")
    assert inbox.take()["pgreact_job"] == again
    with database.connect() as connection:
        found = {row["name"]: row for row in overview.overview(connection, [])["lanes"]}
    assert found["nobody"]["full"]
    assert not found[inbox.queue]["full"]


def test_the_routing_of_known_tasks_is_asked_for_at_each_election(
    database: Database, inbox: Inbox, installed: Install, daemons: Start
) -> None:
    installed(database)
    database.run("insert into pgreact.task (name, queue) values ('t', 'as it was')")
    daemons(database.dsn, inbox.url).ready()
    database.run("select pgreact.signal('pgreact.queue')")
    database.until("select queue = 'celery' from pgreact.task")


def test_a_claim_tells_where_a_place_that_becomes_free_is_idle(queue: Queue) -> None:
    queue.run("update pgreact.lane set max_in_progress = 1")
    first, _ = queue.add(), queue.add()
    assert [lane["idle"] for lane in queue.claim()["full_lanes"]] == [True]
    queue.run("update pgreact.in_progress set published_at = published_at - interval '1 s'")
    assert [lane["idle"] for lane in queue.claim()["full_lanes"]] == [False]  # a message waits for a worker
    queue.start(first)
    assert [lane["idle"] for lane in queue.claim()["full_lanes"]] == [True]


def test_a_lane_full_of_unstarted_jobs_is_claimed_soon_and_then_seldom(queue: Queue) -> None:
    queue.run("update pgreact.lane set max_unstarted = 1")
    queue.add(), queue.add()
    answer = queue.claim()
    assert answer["next_s"] <= 0.06
    assert answer["full_lanes"] == [{"lane": "default", "in_progress": 1, "unstarted": 1, "idle": False}]
    queue.run("update pgreact.lane_state set recent_at = now() - interval '1 min'")
    assert 0.9 < queue.claim()["next_s"] <= 1
    queue.start(1)
    assert queue.claimed() == [2]


# ---- retries of the task's own -----------------------------------------------------------------------------


def test_a_job_that_waits_for_its_own_retry_holds_no_place(queue: Queue) -> None:
    queue.run("update pgreact.lane set max_in_progress = 2")
    first, second, third = (queue.add() for _ in range(3))
    assert queue.claimed() == [first, second]
    for job in (first, second):
        queue.start(job)
        assert retry(queue, job)
    assert queue.claimed() == [third]
    fourth = queue.add()
    queue.run("update pgreact.queue set run_at = now() where state = 'delayed'")
    assert set(queue.claimed()) < {first, second, fourth}, "within the limit"
    assert queue.value("select count(*) from pgreact.in_progress") == 2


def test_a_retry_goes_on_with_its_attempt_and_its_message(queue: Queue) -> None:
    job = queue.add(args="'[1]'", max_attempts="2")
    task_id = queue.claim()["jobs"][0]["task_id"]
    queue.start(job)
    assert retry(queue, job, "0 s", task="u", options={"queue": "q", "priority": 3})
    (again,) = queue.claim()["jobs"]
    assert (again["id"], again["task_id"], again["attempt"]) == (job, task_id, 1)
    assert (again["task"], json.loads(again["args"]), again["retries"]) == ("u", [2], 1)
    assert json.loads(again["options"]) == {"queue": "q", "priority": 3}
    assert not queue.start(job, retries=0), "that is the message before"
    assert queue.start(job, retries=1)
    queue.settle(job, "failed")
    queue.value("select pgreact.retry(%s)", job)
    (anew,) = queue.claim()["jobs"]
    assert (anew["attempt"], anew["task"], anew["args"], anew["retries"]) == (2, "t", "[1]", 0)


def test_a_run_asks_for_one_retry_only(queue: Queue) -> None:
    job = queue.add()
    queue.claimed()
    assert not retry(queue, job), "it has not started"
    queue.start(job)
    assert retry(queue, job, "0 s")
    queue.claimed()
    assert not retry(queue, job)
    assert queue.state(job) == "in progress"


def test_a_retry_that_is_lost_comes_again_as_it_was(queue: Queue) -> None:
    job = queue.add()
    queue.claimed()
    queue.start(job)
    retry(queue, job, "0 s")
    queue.claimed()
    queue.start(job, retries=1)
    queue.settle(job, "lost")
    (again,) = queue.claim()["jobs"]
    assert (again["attempt"], again["args"], again["retries"]) == (2, "[2]", 1)


def test_keys_and_unique_keys_are_held_while_a_retry_is_awaited(queue: Queue) -> None:
    job = queue.add(key="'k'", unique_key="'u'", unique_while="'in_progress'")
    behind = queue.add(key="'k'")
    assert queue.claimed() == [job]
    queue.start(job)
    retry(queue, job)
    assert queue.claimed() == []
    assert queue.add(unique_key="'u'", unique_while="'in_progress'") == job
    queue.value("select pgreact.retry(%s)", job)
    assert queue.claimed() == [job]
    queue.start(job, retries=1)
    queue.settle(job)
    assert queue.claimed() == [behind]


@pytest.mark.parametrize("end", ["failed", "lost", "retry"])
def test_a_requeued_job_unblocks_an_earlier_one_of_its_key(queue: Queue, end: str) -> None:
    earlier = queue.add(key="'k'")
    queue.claimed()
    queue.settle(earlier, "rejected")
    job = queue.add(key="'k'", max_attempts="2")
    queue.claimed()
    queue.start(job)
    queue.value("select pgreact.retry(%s)", earlier)  # of the dead
    assert queue.claimed() == []
    assert queue.state(earlier) == "blocked"
    if end == "retry":
        retry(queue, job, "0 s")
    else:
        queue.settle(job, end)
    assert queue.claimed() == [earlier]
    queue.settle(earlier)
    queue.run("update pgreact.queue set state = 'ready' where state = 'delayed'")
    assert queue.claimed() == [job]


def test_a_retry_whose_message_the_database_cannot_keep_is_invalid(queue: Queue) -> None:
    job = queue.add()
    queue.claimed()
    queue.start(job)
    assert retry(queue, job, args=["\0"])
    assert queue.state(job) == "invalid"
    assert "the arguments of its retry cannot be stored" in queue.value("select error from pgreact.dead")


def test_status_says_what_fills_a_lane_and_what_waits_for_a_retry(queue: Queue) -> None:
    queue.run("update pgreact.lane set max_in_progress = 2, max_unstarted = 1")
    first, second = queue.add(), queue.add()
    queue.claimed()
    queue.start(first)
    retry(queue, first)
    queue.claimed()
    queue.start(second)
    for _ in range(3):
        queue.add()
        queue.claimed()
    with queue.connect() as connection:
        lines = list(overview.overview_lines(overview.overview(connection, [])))
    assert "FULL: 1 running, 1 of 1 published and not started, 1 wait for a retry" in lines[2]


def test_a_lane_whose_messages_carry_several_jobs_is_full_at_five_times_as_many(queue: Queue) -> None:
    queue.run(
        "update pgreact.task set run_s = 0.0005 where name = 't'",
        "update pgreact.lane set max_unstarted = 10",
    )
    for _ in range(60):
        queue.add()
    with queue.connect() as connection:
        assert queue.claim(40)["claimed"] == 40
        assert "FULL" not in "\n".join(overview.overview_lines(overview.overview(connection, [])))
        assert queue.claim(40)["claimed"] == 10
        lines = list(overview.overview_lines(overview.overview(connection, [])))
    assert "FULL: 0 running, 50 of 50 published and not started" in lines[2]


# ---- attempts ----------------------------------------------------------------------------------------------


def test_a_failure_is_final_unless_the_job_says_otherwise(queue: Queue) -> None:
    job = queue.add()
    queue.claimed()
    queue.start(job)
    queue.settle(job, "failed")
    assert queue.state(job) == "failed"


@pytest.mark.parametrize(
    ("lane", "job", "runs"),
    [(None, None, 4), (None, 0, 1), (None, 1, 2), (0, None, 1), (2, None, 3), (0, 1, 2)],
)
def test_a_job_whose_worker_dies_is_repeated_max_lost_times(
    queue: Queue, lane: int | None, job: int | None, runs: int
) -> None:
    if lane is not None:
        queue.run(f"update pgreact.lane set max_lost = {lane}")
    number = queue.add(max_lost="null" if job is None else job)
    ran = 0
    while queue.claimed():
        ran += 1
        queue.start(number)
        queue.run("update pgreact.in_progress set lease_until = clock_timestamp()")
    assert ran == runs
    assert queue.state(number) == "lost"


def test_attempts_that_were_lost_are_none_that_failed(queue: Queue) -> None:
    job = queue.add(max_attempts="2", backoff="'10 s'")
    for end in ("lost", "failed", "lost"):
        queue.claimed()
        queue.start(job)
        queue.settle(job, end)
        if end == "failed":
            assert queue.value(
                "select extract(epoch from run_at - clock_timestamp())::float8 from pgreact.queue"
            ) == pytest.approx(10, abs=1)
            queue.value("select pgreact.retry(%s)", job)
    queue.claimed()
    queue.settle(job, "failed")
    assert queue.state(job) == "failed"


def test_a_job_that_was_cancelled_is_not_repeated_when_its_worker_dies(queue: Queue) -> None:
    job = queue.add(max_attempts="5")
    queue.claimed()
    queue.start(job)
    assert queue.value("select pgreact.cancel(%s)", job) == "started"
    queue.settle(job, "lost")
    assert queue.state(job) == "lost"


A_MINUTE_ON = (
    """to_char(clock_timestamp() at time zone 'UTC' + interval '1 min', 'YYYY-MM-DD"T"HH24:MI:SS')"""
)


# ---- expiry ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        ("options => '{\"expires\": 60}'", 60),
        (f"options => jsonb_build_object('expires', {A_MINUTE_ON})", 60),
        ("expires => clock_timestamp() + interval '2 min', options => '{\"expires\": 60}'", 120),
        ("options => '{\"expires\": null}'", None),
        ("task => 'brief'", 30),
        ("task => 'brief', options => '{\"expires\": 60}'", 60),
    ],
)  # fmt: skip
def test_expires_means_the_same_wherever_it_is_set(
    queue: Queue, arguments: str, seconds: float | None
) -> None:
    queue.run("insert into pgreact.task (name, queue, expires) values ('brief', 'default', '30 s')")
    if "task" not in arguments:
        arguments = f"task => 't', {arguments}"
    queue.run("set timezone = 'Asia/Tokyo'", f"select pgreact.enqueue({arguments})")
    expires, options = (
        queue.value(f"select {column} from pgreact.queue")
        for column in ("extract(epoch from expires - clock_timestamp())::float8", "options")
    )
    assert expires == (None if seconds is None else pytest.approx(seconds, abs=2))
    assert options == {}, "no worker's clock is asked"


def test_a_job_that_has_expired_is_not_started(queue: Queue) -> None:
    job, other = queue.add(), queue.add()
    queue.claimed()
    queue.run("update pgreact.in_progress set expires = clock_timestamp()")
    assert not queue.start(job)
    assert queue.state(job) == "expired"
    assert "not started before it expired at" in queue.value("select error from pgreact.dead")
    assert queue.state(other) == "in progress"


def test_a_published_job_that_expires_is_dead_at_once_whatever_its_lease(queue: Queue) -> None:
    job = queue.add(expires="clock_timestamp() + interval '20 s'")
    assert queue.claim()["next_s"] == pytest.approx(20, abs=1)
    queue.run("update pgreact.in_progress set expires = clock_timestamp()")
    assert queue.claimed() == []
    assert queue.state(job) == "expired"


def test_a_retry_may_expire_like_any_message(queue: Queue) -> None:
    job = queue.add()
    queue.claimed()
    queue.start(job)
    retry(queue, job, "0 s", options={"expires": 0, "queue": "q"})
    assert queue.claimed() == []
    assert queue.state(job) == "expired"


def test_seconds_of_expires_count_from_a_late_firing(queue: Queue) -> None:
    for name, columns in (("a", "expires"), ("b", "options")):
        value = "interval '1 min'" if columns == "expires" else "'{\"expires\": 60}'::jsonb"
        queue.run(
            f"insert into pgreact.schedule (name, task, every, {columns}) "
            f"values ('{name}', 't', '1 h', {value})"
        )
    queue.run(
        "select pgreact.fire(jsonb_agg(jsonb_build_object('id', id, 'revision', revision, "
        "'state', 'planned', 'occurrences', array[now() - interval '1 day']))) from pgreact.schedule"
    )
    assert queue.value("select array_agg(expires - enqueued_at = '1 min') from pgreact.queue") == [True, True]
    assert len(queue.claimed()) == 2
    queue.run("delete from pgreact.schedule")


@pytest.mark.parametrize("runs", [False, True])
def test_a_lane_full_of_unstarted_jobs_is_reported(queue: Queue, runs: bool) -> None:
    queue.run("update pgreact.lane set max_unstarted = 2")
    jobs = [queue.add() for _ in range(4)]
    assert queue.claimed() == jobs[:2]
    if runs:
        queue.start(jobs[0])
        queue.claimed()

    def reasons() -> list[str]:
        with queue.connect() as connection:
            found: list[str] = overview.overview(connection, [])["reasons"]
        return [reason for reason in found if "is full" in reason]

    assert reasons() == [], "its workers may be about to start them"
    queue.run(
        "update pgreact.queue set run_at = now() - interval '2 min', enqueued_at = now() - interval '2 min'"
    )
    told = "queue: lane default is full: 0 running, 2 of 2 published and not started"
    assert reasons() == ([] if runs else [told])


# ---- messages that no worker starts ------------------------------------------------------------------------


def verdicts(queue: Queue) -> list[Any]:
    """Return the verdicts on messages that no worker starts, after they were sent for the third time."""
    queue.run(
        "update pgreact.in_progress set publishes = 2, claimed_at = now() - interval '1 h' where id = 1",
        "update pgreact.in_progress set lease_until = now() where started_at is null and id = 1",
    )
    answer = queue.claim()
    return [[row["jobs"], row["sent"], row["verdict"]] for row in answer["unanswered"]]


def test_an_unconsumed_queue_is_reported(queue: Queue) -> None:
    queue.add(), queue.claimed()
    queue.add(), queue.claimed()
    assert verdicts(queue) == [[1, 4, "unconsumed"]]
    with queue.connect() as connection:
        found = overview.overview(connection, [])
    reason = found["reasons"][-1]
    assert reason.startswith("queue: 1 jobs sent to Celery queue default were sent up to 4 times and not ")
    assert "no worker seems to consume the queue" in reason
    assert queue.claim()["unanswered"] is None, "there is nothing new to look at"
    queue.start(1)
    assert queue.claim()["unanswered"] == []


@pytest.mark.parametrize("ended", [False, True])
def test_a_job_passed_over_by_a_consumed_queue_is_reported(queue: Queue, ended: bool) -> None:
    queue.add(), queue.claimed()
    later = queue.add()
    queue.claimed()
    queue.start(later)
    if ended:
        queue.settle(later)
    assert verdicts(queue) == [[1, 4, "passed over"]]
    with queue.connect() as connection:
        reason = overview.overview(connection, [])["reasons"][-1]
    assert "does it call pgreact.setup" in reason


def test_a_job_that_waits_for_busy_workers_is_not_reported(queue: Queue) -> None:
    first = queue.add()
    queue.run("update pgreact.lane set max_unstarted = 1")
    queue.claimed()
    queue.start(first)
    second = queue.add()
    queue.claimed()
    queue.run(
        f"update pgreact.in_progress set publishes = 2, claimed_at = now() - interval '1 h', "
        f"lease_until = now() where id = {second}"
    )
    assert queue.claim()["unanswered"] == []
    with queue.connect() as connection:
        found = overview.overview(connection, [])
    assert found["unanswered"][0]["verdict"] == "busy"
    assert not [reason for reason in found["reasons"] if "not started" in reason]
