"""Bundles at the SQL functions: which jobs share a message, and how their attempts begin, end and go back."""

import json
from typing import Any

import psycopg
import pytest

from tests.queue_steps import Queue

WORKER = "w 1"


class Bundles(Queue):
    """A queue whose task ``t`` was measured to be short, and in whose lane messages wait for a worker."""

    def fill(self, count: int = 100, **arguments: object) -> list[int]:
        """Enqueue jobs."""
        return [self.add(**{"task": "t", **arguments}) for _ in range(count)]  # type: ignore[arg-type]

    def saturate(self, lane: str = "default") -> None:
        """Let a worker run one job, while the message of another one has waited for a while."""
        first, _ = self.add(task="slow", lane=f"'{lane}'"), self.add(task="slow", lane=f"'{lane}'")
        self.claim()
        assert self.start(first)
        self.run(
            "update pgreact.in_progress set published_at = published_at - interval '1 s', "
            "claimed_at = claimed_at - interval '1 s' where task = 'slow'"
        )

    def bundles(self, batch: int = 500) -> list[dict[str, Any]]:
        """Claim; return the bundles, with their bodies read."""
        answer = self.claim(batch)
        for bundle in answer["bundles"]:
            bundle["body"] = json.loads(bundle["body"])
        found: list[dict[str, Any]] = answer["bundles"]
        return found

    def advance(self, done: list[list[Any]], following: list[list[Any]], worker: str = WORKER) -> Any:
        """Settle jobs that ran for 10 ms and ended 5 ms ago, and start others."""
        return self.value(
            "select to_jsonb(s) from pgreact.settle_and_start(%s, %s::uuid[], %s, %s, %s, %s::uuid[], %s) s",
            [job[0] for job in done],
            [job[1] for job in done],
            [0.015] * len(done),
            [0.010] * len(done),
            [job[0] for job in following],
            [job[1] for job in following],
            worker,
        )

    def hand_back(self, jobs: list[list[Any]], worker: str = WORKER) -> list[int]:
        """Hand jobs back."""
        found: list[int] = self.value(
            "select pgreact.hand_back(%s, %s::uuid[], %s)",
            [job[0] for job in jobs],
            [job[1] for job in jobs],
            worker,
        )
        return found


@pytest.fixture
def queue(steps: Queue) -> Bundles:
    """An empty queue, whose task ``t`` runs for a millisecond."""
    found = Bundles(steps.dsn)
    found.run(
        "insert into pgreact.task (name, queue) values ('slow', 'default')",
        "update pgreact.task set run_s = 0.001 where name = 't'",
        "update pgreact.task set run_s = 5 where name = 'slow'",
    )
    return found


@pytest.fixture
def bundle(queue: Bundles) -> list[list[Any]]:
    """The jobs of one bundle, published."""
    queue.saturate()
    queue.fill(40)
    return list(queue.bundles()[0]["body"])


# ---- which jobs share a message ----------------------------------------------------------------------------


def test_jobs_share_messages_while_messages_wait_for_a_worker(queue: Bundles) -> None:
    queue.saturate()
    jobs = queue.fill(60, args="'[1, \"ä\"]'", kwargs="'{\"a\": 2}'")
    found = queue.bundles()
    assert [each["jobs"] for each in found] == [15, 15, 15, 15]  # in four messages, whatever their number
    bodies = [job for each in found for job in each["body"]]
    assert [job[0] for job in bodies] == jobs
    assert bodies[0][3:] == [1, False, '[1, "ä"]', '{"a": 2}']
    assert (
        queue.value("select claim_id::text from pgreact.in_progress where id = %s", jobs[7]) == bodies[7][1]
    )
    assert queue.value("select task_id::text from pgreact.in_progress where id = %s", jobs[7]) == bodies[7][2]
    assert {(each["task"], each["lane"], each["options"]) for each in found} == {("t", "default", "{}")}


def test_a_message_lasts_20_ms(queue: Bundles) -> None:
    queue.run("update pgreact.task set run_s = 0.005 where name = 't'")
    queue.saturate()
    queue.fill(40)
    assert {each["jobs"] for each in queue.bundles()} == {4}


def test_without_a_message_that_waits_each_job_travels_alone(queue: Bundles) -> None:
    first = queue.add(task="slow")
    queue.claim()
    queue.start(first)
    queue.fill(40)
    answer = queue.claim(500)
    assert (len(answer["jobs"]), answer["bundles"]) == (40, [])


def test_a_message_that_came_just_now_shows_no_busy_worker(queue: Bundles) -> None:
    queue.add(task="slow")
    queue.claim()
    queue.fill(40)
    queue.run("update pgreact.in_progress set published_at = clock_timestamp() + interval '1 s'")
    assert queue.claim(500)["bundles"] == []


def test_many_jobs_shorter_than_a_message_costs_share_messages_without_one_that_waits(queue: Bundles) -> None:
    queue.run("update pgreact.task set run_s = 0.0005 where name = 't'")
    jobs = queue.fill(40)
    found = queue.bundles()
    assert [each["jobs"] for each in found] == [3] * 13  # in 16 parts, rounded up; and one alone
    assert [job[0] for each in found for job in each["body"]] == jobs[:39]


@pytest.mark.parametrize(("run_s", "count"), [(0.0005, 31), (0.001, 100)])
def test_without_a_message_that_waits_few_or_longer_jobs_travel_alone(
    queue: Bundles, run_s: float, count: int
) -> None:
    queue.run(f"update pgreact.task set run_s = {run_s} where name = 't'")
    queue.fill(count)
    answer = queue.claim(500)
    assert (len(answer["jobs"]), answer["bundles"]) == (count, [])


def test_each_busy_worker_has_two_messages(queue: Bundles) -> None:
    queue.saturate()
    others = [queue.add(task="slow") for _ in range(9)]
    queue.claim()
    for job in others:
        queue.value(
            "select pgreact.start(id, claim_id, 0, 'w' || id) from pgreact.in_progress where id = %s", job
        )
    queue.fill(40)
    assert {each["jobs"] for each in queue.bundles()} == {2}  # (40 new + 1 waiting) / 2 / 10 workers


@pytest.mark.parametrize(
    "change",
    [
        "update pgreact.task set run_s = 0.02 where name = 't'",
        "update pgreact.task set run_s = null where name = 't'",
        "update pgreact.task set alone = true where name = 't'",
        "update pgreact.lane set bundle = 1",
        "update pgreact.lane set rate = 1000, burst = 1000",
        "update pgreact.lane set max_lost = 0",
        "update pgreact.queue set max_lost = 0",
        "update pgreact.queue set attempt = 1",
        "update pgreact.queue set options = '{\"expires\": 60}'",
        'update pgreact.queue set trace = \'{"traceparent": "x"}\'',
        "update pgreact.queue set size = 5000",
        "update pgreact.queue set resume = '{\"args\": []}'",
    ],
)
def test_what_concerns_one_message_alone_keeps_jobs_apart(queue: Bundles, change: str) -> None:
    queue.saturate()
    queue.fill(40)
    queue.run(change)
    answer = queue.claim(500)
    assert (len(answer["jobs"]), answer["bundles"]) == (40, [])


def test_a_lane_limits_the_jobs_of_a_message(queue: Bundles) -> None:
    queue.run("update pgreact.lane set bundle = 3")
    queue.saturate()
    queue.fill(40)
    found = queue.bundles()
    assert [each["jobs"] for each in found] == [3] * 13  # and one alone


def test_only_jobs_of_one_lane_task_and_options_share_a_message(queue: Bundles) -> None:
    queue.run(
        "insert into pgreact.lane (name) values ('other')",
        "insert into pgreact.task (name, queue, run_s) values ('u', 'default', 0.001)",
    )
    queue.saturate()
    queue.saturate("other")
    for _ in range(16):
        queue.add("t")
        queue.add("u")
        queue.add("t", lane="'other'")
        queue.add("t", options='\'{"queue": "q"}\'')
    found = queue.bundles()
    kinds = {(each["lane"], each["task"], each["options"]) for each in found}
    assert kinds == {
        ("default", "t", "{}"),
        ("default", "u", "{}"),
        ("other", "t", "{}"),
        ("default", "t", '{"queue": "q"}'),
    }
    assert sum(each["jobs"] for each in found) == 64


def test_max_unstarted_bounds_messages(queue: Bundles) -> None:
    queue.run("update pgreact.lane set max_unstarted = 10")
    queue.saturate()
    queue.fill(100)
    assert sum(each["jobs"] for each in queue.bundles()) == 49  # 5 for each, with the one that waits


def test_jobs_alone_stay_within_max_unstarted_beside_bundles(queue: Bundles) -> None:
    queue.run("update pgreact.lane set max_unstarted = 10")
    queue.saturate()
    for _ in range(30):
        queue.add("slow")
    assert queue.value("select cardinality(pgreact.next_jobs(500))") == 9
    assert len(queue.claim(500)["jobs"]) == 9


def test_short_jobs_do_not_overtake_one_of_their_lane_that_finds_no_room(queue: Bundles) -> None:
    queue.run("update pgreact.lane set max_unstarted = 10")
    queue.saturate()
    queue.fill(30)
    sent = [job for each in queue.bundles() for job in each["body"]]
    assert len(sent) == 30  # in more places than a job alone may have
    alone = queue.add("slow")
    later = queue.fill(30)
    assert queue.claim(500)["claimed"] == 0
    assert queue.value("select cardinality(pgreact.next_jobs(500))") == 0
    queue.advance([], sent[:28])
    answer = queue.claim(500)
    assert [job["id"] for job in answer["jobs"]][:1] == [alone]
    assert answer["claimed"] > 1
    assert queue.state(later[0]) == "in progress"


def test_jobs_of_a_message_are_published_again_one_by_one(queue: Bundles, bundle: list[list[Any]]) -> None:
    queue.run("update pgreact.in_progress set lease_until = now() - interval '1 s' where task = 't'")
    answer = queue.claim(500)
    assert answer["bundles"] == []
    again = {job["id"]: job["claim_id"] for job in answer["jobs"]}
    assert {job[0]: job[1] for job in bundle}.items() <= again.items()


def test_a_claim_returns_tasks_that_are_not_known_though_their_jobs_have_a_lane(queue: Bundles) -> None:
    queue.add("new", lane="'default'")
    queue.add("t")
    assert queue.claim()["unrouted"] == ["new"]


# ---- how attempts begin and end ----------------------------------------------------------------------------


def test_one_statement_settles_attempts_and_starts_the_next(queue: Bundles, bundle: list[list[Any]]) -> None:
    queue.run("update pgreact.queue_setting set retention = '1 day'")
    assert queue.advance([], bundle[:1])["started"] == [bundle[0][0]]
    answer = queue.advance(bundle[:1], bundle[1:3])
    assert (sorted(answer["started"]), answer["ignored"], answer["lease_s"]) == (
        [job[0] for job in bundle[1:3]],
        [],
        60,
    )
    started = queue.value(
        "select array_agg(id order by id) from pgreact.in_progress where worker = %s", WORKER
    )
    assert started == [job[0] for job in bundle[1:3]]
    outcome, ran, ended = queue.value(
        "select array[outcome, round(extract(epoch from settled_at - started_at) * 1000)::text, "
        "(settled_at < now())::text] from pgreact.history where id = %s",
        bundle[0][0],
    )
    assert (outcome, ran, ended) == ("done", "10", "true")
    assert round(queue.value("select run_s from pgreact.settled where outcome = 'done'"), 4) == 0.01


def test_an_attempt_starts_once(queue: Bundles, bundle: list[list[Any]]) -> None:
    assert queue.start(bundle[1][0])  # a message of its own came first
    assert queue.advance([], bundle[:2])["started"] == [bundle[0][0]]
    assert queue.advance([], bundle[:2], "w 2")["started"] == []
    assert not queue.start(bundle[0][0])


def test_an_attempt_that_has_ended_is_ignored(queue: Bundles, bundle: list[list[Any]]) -> None:
    queue.advance([], bundle[:2])
    queue.settle(bundle[0][0], "lost")
    assert queue.advance(bundle[:2], [])["ignored"] == [bundle[0][0]]


def test_a_locked_attempt_is_not_started(queue: Bundles, bundle: list[list[Any]]) -> None:
    with queue.connect(autocommit=False) as other:
        other.execute("select from pgreact.in_progress where id = %s for update", (bundle[0][0],))
        assert queue.advance([], bundle[:2])["started"] == [bundle[1][0]]


def test_a_locked_settlement_changes_nothing(queue: Bundles, bundle: list[list[Any]]) -> None:
    queue.advance([], bundle[:2])
    with queue.connect(autocommit=False) as other:
        other.execute("select from pgreact.in_progress where id = %s for update", (bundle[1][0],))
        with pytest.raises(psycopg.errors.LockNotAvailable):
            queue.advance(bundle[:2], bundle[2:4])
    assert [queue.state(job[0]) for job in bundle[:2]] == ["in progress", "in progress"]
    assert queue.value("select started_at is null from pgreact.in_progress where id = %s", bundle[2][0])


def test_an_expired_job_is_not_started(queue: Bundles, bundle: list[list[Any]]) -> None:
    queue.run(f"update pgreact.in_progress set expires = now() - interval '1 s' where id = {bundle[0][0]}")
    assert queue.advance([], bundle[:2])["started"] == [bundle[1][0]]
    assert queue.state(bundle[0][0]) == "expired"


def test_a_settlement_unblocks_the_next_job_of_a_key(queue: Bundles) -> None:
    queue.saturate()
    jobs = queue.fill(8, key="'k' || (random() * 1e9)::bigint")
    after = queue.add("t", key=f"(select key from pgreact.queue where id = {jobs[0]})")
    (first, *_) = (job for each in queue.bundles() for job in each["body"] if job[0] == jobs[0])
    assert queue.state(after) == "blocked"
    queue.advance([], [first])
    queue.advance([first], [])
    assert queue.state(after) == "ready"


# ---- how they go back --------------------------------------------------------------------------------------


def test_jobs_that_are_handed_back_are_as_before(queue: Bundles) -> None:
    queue.saturate()
    job, *_ = queue.fill(40, priority=3, max_attempts=2, unique_key="'u' || (random() * 1e9)::bigint")
    columns = "to_jsonb(q) - 'state'"
    before = queue.value(f"select {columns} from pgreact.queue q where id = %s", job)
    bundle = queue.bundles()[0]["body"]
    queue.advance([], bundle[:1])
    assert queue.hand_back(bundle) == []
    after = queue.value(f"select {columns} from pgreact.queue q where id = %s", job)
    assert {**after, "ready_at": None} == before
    assert queue.state(job) == "ready"


def test_a_job_that_runs_elsewhere_is_not_handed_back(queue: Bundles, bundle: list[list[Any]]) -> None:
    queue.start(bundle[0][0])
    queue.advance([], bundle[1:2])
    queue.advance(bundle[1:2], [])
    assert queue.hand_back(bundle[:3]) == []
    assert [queue.state(job[0]) for job in bundle[:3]] == ["in progress", None, "ready"]


def test_a_locked_job_is_handed_back_later(queue: Bundles, bundle: list[list[Any]]) -> None:
    with queue.connect(autocommit=False) as other:
        other.execute("select from pgreact.in_progress where id = %s for update", (bundle[0][0],))
        assert queue.hand_back(bundle[:2]) == [bundle[0][0]]
    assert queue.hand_back(bundle[:2]) == []
    assert [queue.state(job[0]) for job in bundle[:2]] == ["ready", "ready"]


def test_a_dead_process_loses_only_what_it_had_begun(queue: Bundles, bundle: list[list[Any]]) -> None:
    queue.start(bundle[0][0])  # elsewhere
    queue.advance([], bundle[1:3])
    left = queue.value(
        "select pgreact.abandon_bundle(%s, %s::uuid[], %s, 'lost', 'it died')",
        [job[0] for job in bundle],
        [job[1] for job in bundle],
        WORKER,
    )
    assert left == []
    assert queue.state(bundle[0][0]) == "in progress"
    attempts = "select array[attempt, lost] from pgreact.queue where id = %s"
    assert [queue.value(attempts, job[0]) for job in bundle[1:3]] == [[1, 1], [1, 1]]
    assert [queue.value(attempts, job[0]) for job in bundle[3:]] == [[0, 0]] * (len(bundle) - 3)


# ---- measuring ---------------------------------------------------------------------------------------------


def test_one_slow_run_ends_bundling_and_short_ones_bring_it_back(queue: Bundles) -> None:
    measured = "select run_s from pgreact.task where name = 't'"
    queue.value("select pgreact.measure_run('t', 1)")
    assert queue.value(measured) == pytest.approx(0.3007)
    for _ in range(20):
        queue.value("select pgreact.measure_run('t', 0.001)")
    assert queue.value(measured) < 0.002


def test_runs_of_about_the_same_length_write_nothing(queue: Bundles) -> None:
    before = queue.value("select xmin::text from pgreact.task where name = 't'")
    queue.value("select pgreact.measure_run('t', 0.0012)")
    assert queue.value("select xmin::text from pgreact.task where name = 't'") == before


def test_runs_that_are_too_short_to_tell_apart_write_nothing(queue: Bundles) -> None:
    for _ in range(20):
        queue.value("select pgreact.measure_run('t', 0.000001)")
    before = queue.value("select array[xmin::text, run_s::text] from pgreact.task where name = 't'")
    for run_s in (0.00015, 0.000001, 0):
        queue.value(f"select pgreact.measure_run('t', {run_s})")
    assert queue.value("select array[xmin::text, run_s::text] from pgreact.task where name = 't'") == before


def test_a_long_run_is_measured_when_it_settles(queue: Bundles) -> None:
    job = queue.add("t")
    queue.claim()
    queue.start(job)
    queue.run("update pgreact.in_progress set started_at = now() - interval '10 s'")
    queue.settle(job)
    assert queue.value("select run_s from pgreact.task where name = 't'") > 2
