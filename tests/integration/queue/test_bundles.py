"""Bundles at the SQL functions: which jobs share a message, and how their attempts begin, end and go back."""

import json
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.queue_steps import Queue

WORKER = "w 1"


class Bundles(Queue):
    """A queue whose task ``t`` was measured to be short, and in whose lane messages wait for a worker."""

    measures = True

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


def test_jobs_of_a_lost_message_are_claimed_anew_one_by_one(queue: Bundles, bundle: list[list[Any]]) -> None:
    queue.run("update pgreact.in_progress set lease_until = now() - interval '1 s' where task = 't'")
    answer = queue.claim(500)
    assert answer["bundles"] == []
    again = {job["id"]: job for job in answer["jobs"]}
    assert {job[0] for job in bundle} <= again.keys()
    assert all(again[job[0]]["claim_id"] != job[1] for job in bundle), (
        "no other message under the same claim_id"
    )
    assert {job["attempt"] for job in again.values()} == {1}


@pytest.mark.parametrize("alone", [True, False])
def test_jobs_of_a_message_that_was_not_sent_are_claimed_anew(
    queue: Bundles, bundle: list[list[Any]], alone: bool
) -> None:
    claims = [job[1] for job in bundle]
    assert queue.value("select pgreact.unpublished(%s::uuid[], %s)::text[]", claims, alone) == []
    assert {queue.state(job[0]) for job in bundle} == {"ready"}
    answer = queue.claim(500)
    assert (answer["bundles"] == []) is alone
    found = {job["id"]: job["claim_id"] for job in answer["jobs"]}
    found |= {job[0]: job[1] for each in answer["bundles"] for job in json.loads(each["body"])}
    assert {job[0] for job in bundle} <= found.keys()
    assert not {*found.values()} & {*claims}


# ---- places of a lane with a limit -------------------------------------------------------------------------

_PLACES = (
    "select count(*) filter (where bundle is null) + count(distinct bundle) from pgreact.in_progress "
    "where lane = %s"
)


@pytest.fixture
def limited(queue: Bundles) -> Bundles:
    """A queue whose lane ``default`` has four places, and no message that waits for a worker."""
    queue.run("update pgreact.lane set max_in_progress = 4")
    return queue


def test_a_bundle_takes_one_place_of_its_lane(limited: Bundles) -> None:
    jobs = limited.fill(50)
    sent = limited.bundles()
    assert [each["jobs"] for each in sent] == [13, 13, 13, 11]
    assert limited.value(_PLACES, "default") == 4
    later = limited.fill(10)
    assert limited.claim(500)["claimed"] == 0
    first = sent[0]["body"]
    limited.advance([], first[:1])
    limited.advance(first[:1], first[1:])
    assert limited.claim(500)["claimed"] == 0, "its worker runs one of the others"
    limited.advance(first[1:], [])
    limited.run("update pgreact.task set run_s = 0.001 where name = 't'")
    answer = limited.claim(500)
    assert [each["jobs"] for each in answer["bundles"]] == [10]
    assert (answer["jobs"], limited.state(later[-1])) == ([], "in progress")
    assert limited.state(jobs[20]) == "in progress"


def test_where_there_are_places_for_all_each_job_travels_alone(limited: Bundles) -> None:
    limited.fill(4)
    answer = limited.claim(500)
    assert (len(answer["jobs"]), answer["bundles"]) == (4, [])


@pytest.mark.parametrize(("places", "taken"), [(1, 1), (2, 3), (3, 4), (4, 4)])
def test_jobs_of_a_lane_with_a_limit_do_not_overtake_one_that_finds_no_place(
    queue: Bundles, places: int, taken: int
) -> None:
    queue.run(f"update pgreact.lane set max_in_progress = {places}")
    jobs = [queue.add(task=task) for task in ("t", "slow", "t", "slow", "t", "t")]
    foreseen = queue.value("select array_agg(j order by j) from unnest(pgreact.next_jobs(500)) j")
    queue.claim(500)
    assert [job for job in jobs if queue.state(job) == "in progress"] == foreseen == jobs[:taken]
    assert queue.value(_PLACES, "default") == places


def test_a_full_lane_leaves_the_claim_to_the_others(limited: Bundles) -> None:
    limited.run("insert into pgreact.lane (name) values ('other')")
    limited.fill(3)
    slow = [limited.add(task="slow") for _ in range(20)]
    other = limited.fill(30, lane="'other'")
    foreseen = limited.value("select pgreact.next_jobs(20)")
    answer = limited.claim(20)
    taken = {job["id"] for job in answer["jobs"]}
    taken |= {job[0] for each in answer["bundles"] for job in json.loads(each["body"])}
    assert sorted(foreseen) == sorted(taken)
    assert len(taken) == 20
    assert limited.value(_PLACES, "default") == 4
    assert limited.state(slow[0]) == "in progress"
    assert limited.state(other[12]) == "in progress"


def test_no_message_of_a_running_bundle_waits(limited: Bundles) -> None:
    limited.fill(50)
    sent = limited.bundles()
    limited.run("update pgreact.in_progress set published_at = published_at - interval '1 s'")
    limited.fill(10)
    assert [lane["idle"] for lane in limited.claim(500)["full_lanes"]] == [False], "no worker has begun one"
    for each in sent:
        limited.advance([], each["body"][:1])
    assert [lane["idle"] for lane in limited.claim(500)["full_lanes"]] == [True]
    assert limited.value("select waiting from pgreact.places_used()") is None


STEP = st.one_of(
    st.tuples(
        st.just("add"), st.sampled_from("abc"), st.sampled_from(["t", "u", "slow"]), st.integers(1, 12)
    ),
    st.tuples(st.just("claim"), st.integers(1, 40)),
    st.tuples(st.just("run"), st.integers(0, 9), st.integers(1, 5)),
    st.tuples(st.just("unsent"), st.integers(0, 9)),
)
LIMITS = {"a": 1, "b": 3}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=25))
def test_no_lane_has_more_places_taken_than_its_limit(queue: Bundles, steps: list[tuple[Any, ...]]) -> None:
    queue.run(
        "delete from pgreact.queue",
        "delete from pgreact.in_progress",
        "insert into pgreact.task (name, queue, run_s) values ('u', 'default', 0.0005) "
        "on conflict do nothing",
        "insert into pgreact.lane (name, max_in_progress) values ('a', 1), ('b', 3), ('c', null) "
        "on conflict do nothing",
    )
    sent: list[list[list[Any]]] = []  # messages that have not ended
    lanes: dict[int, str] = {}
    waiting: set[int] = set()
    for step in (*steps, ("claim", 100)):
        match step:
            case ("add", lane, task, count):
                added = queue.fill(count, task=task, lane=f"'{lane}'")
                lanes |= dict.fromkeys(added, lane)
                waiting.update(added)
            case ("claim", batch):
                foreseen = set(queue.value("select pgreact.next_jobs(%s)", batch))
                answer = queue.claim(batch)
                messages = [[[job["id"], job["claim_id"]]] for job in answer["jobs"]]
                messages += [json.loads(each["body"]) for each in answer["bundles"]]
                taken = {job[0] for message in messages for job in message} & waiting
                assert taken == foreseen
                for lane in LIMITS:
                    in_order = sorted(job for job in waiting if lanes[job] == lane)
                    ours = sorted(job for job in taken if lanes[job] == lane)
                    assert ours == in_order[: len(ours)]
                waiting -= taken
                sent += messages
            case ("run", number, count) if sent:
                message = sent.pop(number % len(sent))
                part, rest = message[:count], message[count:]
                assert len(queue.advance([], part)["started"]) == len(part)
                queue.advance(part, [])
                sent += [rest] if rest else []
            case ("unsent", number) if sent:
                message = sent.pop(number % len(sent))
                queue.value("select pgreact.unpublished(%s::uuid[])", [job[1] for job in message])
                waiting.update(job[0] for job in message if queue.state(job[0]) == "ready")
        for lane, most in LIMITS.items():
            assert queue.value(_PLACES, lane) <= most


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
    assert queue.advance([], bundle[:2])["started"] == [bundle[0][0], bundle[1][0]]
    again = queue.advance([], bundle[1:4], "w 2")  # another run of the message
    assert (again["started"], again["held"]) == ([], True), "jobs of a bundle run one after the other"
    assert not queue.start(bundle[0][0])


def test_jobs_that_are_gone_do_not_hold_the_others(queue: Bundles, bundle: list[list[Any]]) -> None:
    queue.run(f"select pgreact.cancel({bundle[0][0]})")
    found = queue.advance([], bundle[:3])
    assert (sorted(found["started"]), found["held"]) == ([bundle[1][0], bundle[2][0]], False)


def test_an_attempt_that_has_ended_is_ignored(queue: Bundles, bundle: list[list[Any]]) -> None:
    queue.advance([], bundle[:2])
    queue.settle(bundle[0][0], "lost")
    assert queue.advance(bundle[:2], [])["ignored"] == [bundle[0][0]]


def test_a_locked_attempt_is_not_started(queue: Bundles, bundle: list[list[Any]]) -> None:
    with queue.connect(autocommit=False) as other:
        other.execute("select from pgreact.in_progress where id = %s for update", (bundle[0][0],))
        found = queue.advance([], bundle[:2])
    assert (found["started"], found["held"]) == ([], True)


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
