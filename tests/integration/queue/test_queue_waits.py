"""No function of the dispatcher and the workers waits for another's transaction, whatever rows it holds."""

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from tests.queue_steps import Queue

_TWICE = "select key from pgreact.in_progress where key is not null group by key having count(*) > 1"
ANSWER = 2.0  # seconds in which a function has answered, though 500 ms are what it may wait


@pytest.fixture
def queue(steps: Queue) -> Queue:
    """An empty queue."""
    return steps


@contextlib.contextmanager
def held(queue: Queue, statement: str) -> Iterator["psycopg.Connection[tuple[Any, ...]]"]:
    """Hold what a statement locks, in a transaction that is rolled back unless the test commits it."""
    with queue.connect(autocommit=False) as user:
        user.execute(statement.encode())
        yield user
        user.rollback()


def drain(queue: Queue) -> None:
    """Run all jobs to their end; nothing is left over, and of a key one was in progress at a time."""
    with queue.connect() as session:
        for _ in range(100):
            session.execute("select pgreact.claim(100)")
            assert not session.execute(_TWICE).fetchall()
            session.execute("select pgreact.start(id, claim_id, retries + 1, 'w') from pgreact.in_progress")
            session.execute("select pgreact.settle(id, claim_id, 'done') from pgreact.in_progress")
            session.execute(
                "update pgreact.queue set run_at = now() where state = 'delayed'"
            )  # it paused long enough
            left = session.execute("select to_jsonb(q) from pgreact.queue q").fetchall()
            if not left:
                assert session.execute("select count(*) from pgreact.contested_key").fetchone() == (0,)
                return
    raise AssertionError(left)


# ---- every function beside every lock ----------------------------------------------------------------------

# One job of each kind, by its task; those with a key are followed by another of that key.
_SCENE = """
insert into pgreact.lane (name) values ('other');
insert into pgreact.lane (name, rate, burst) values ('rated', 1000, 50);
update pgreact.queue_setting set retention = '1 day', dead_retention = '1 h';
select pgreact.enqueue('warm', lane => l) from unnest('{default,other,rated}'::text[]) l;
select pgreact.claim(100);
select pgreact.settle(id, claim_id, 'failed') from pgreact.in_progress;
delete from pgreact.queue;
select pgreact.enqueue('dead', max_attempts => 1);
select pgreact.claim(100);
select pgreact.settle(id, claim_id, 'failed') from pgreact.in_progress;
update pgreact.dead set died_at = now() - interval '2 h';
select pgreact.enqueue(t, key => t, unique_key => t, max_attempts => 2)
from unnest('{running,silent}'::text[]) t;
select pgreact.enqueue(t, key => t) from unnest('{running,silent}'::text[]) t;
select pgreact.enqueue(t) from unnest('{waiting,lapsed}'::text[]) t;
select pgreact.claim(100);
select pgreact.start(id, claim_id, 0, 'w') from pgreact.in_progress where task in ('running', 'silent');
select pgreact.enqueue('claimed', key => 'claimed') from generate_series(1, 2);
select pgreact.claim(100);
select pgreact.unpublished();
update pgreact.in_progress set lease_until = clock_timestamp() where task in ('silent', 'lapsed');
select pgreact.enqueue(t, key => t) from unnest('{ready,ready}'::text[]) t;
select pgreact.enqueue('delayed', run_at => clock_timestamp() + interval '1 ms');
select pgreact.enqueue('expired', expires => now() - interval '1 s');
select pg_sleep(0.002);
"""

_LOCKS = {
    **{
        f"cancel of the job that is {kind}": "select pgreact.cancel((select min(id) from ("
        "select id, task from pgreact.queue union all select id, task from pgreact.in_progress) j "
        f"where task = '{kind}'))"
        for kind in ("running", "silent", "waiting", "lapsed", "claimed", "ready", "delayed", "expired")
    },
    "cancel of the job behind the running one": "select pgreact.cancel((select id from pgreact.queue "
    "where task = 'running'))",
    "cancel of a job in the middle of its key": "select pgreact.cancel((select max(id) from pgreact.queue "
    "where task = 'ready'))",
    "cancel of all jobs": "select pgreact.cancel(id) from "
    "(select id from pgreact.queue union all select id from pgreact.in_progress) j",
    **{
        f"row locks on {table}": f"select from pgreact.{table} for update"
        for table in ("queue", "in_progress", "lane", "lane_state", "queue_setting", "dead", "contested_key")
    },
    "an edit of every waiting job": "update pgreact.queue set priority = 1",
    "an edit of every job in progress": "update pgreact.in_progress set priority = 1",
    "an edit and a deletion of jobs in progress": "with edited as (update pgreact.in_progress "
    "set priority = 1 where task in ('running', 'claimed') returning id) select from edited; "
    "delete from pgreact.in_progress where task in ('running', 'claimed'); "
    "select pgreact.unblock_next(k, 0) from unnest('{running,claimed}'::text[]) k",
    "an edit of the settings": "update pgreact.queue_setting set lease = '50 s'",
    "an edit of the lanes": "update pgreact.lane set weight = 2",
    "an enqueue with the unique keys of jobs in progress": "select pgreact.enqueue('t', unique_key => t) "
    "from unnest('{running,silent}'::text[]) t",
    "an enqueue that found the unique keys in progress": "select pgreact.enqueue('t', unique_key => t, "
    "unique_while => 'in_progress') from unnest('{running,silent}'::text[]) t",
    "an enqueue with the keys of all": "select pgreact.enqueue('t', key => t) "
    "from unnest('{running,silent,claimed,ready}'::text[]) t",
    "a retry of the dead job": "select pgreact.retry(id) from pgreact.dead",
    "a purge of the queue": "select pgreact.purge()",
    "a purge of the dead": "select pgreact.purge(dead => true)",
    "a reader of everything, like pg_dump": "lock table pgreact.queue, pgreact.in_progress, pgreact.dead, "
    "pgreact.history, pgreact.history_rest, pgreact.lane, pgreact.queue_setting in access share mode",
    "a renewal": "select pgreact.renew(array_agg(id), array_agg(claim_id)) from pgreact.in_progress",
    "a settlement": "select pgreact.settle(id, claim_id, 'done') from pgreact.in_progress "
    "where task = 'running'",
    "housekeeping": "select pgreact.maintain_history()",
}

_OF = "from pgreact.in_progress where task = "
_RETRY = """'{"retries": 1, "before": 0}'"""
_CALLS = {
    "claim": "select pgreact.claim(100)",
    "unpublished": "select pgreact.unpublished()",
    "unpublished, by claim_id": "select pgreact.unpublished(array_agg(claim_id)) from pgreact.in_progress",
    "renew": "select pgreact.renew(array_agg(id), array_agg(claim_id)) from pgreact.in_progress",
    "start": f"select pgreact.start(id, claim_id, 0, 'w') {_OF} 'waiting'",
    "start of what is not published": f"select pgreact.start(id, claim_id, 0, 'w') {_OF} 'claimed'",
    "settle": f"select pgreact.settle(id, claim_id, 'done') {_OF} 'running'",
    "settle to retry": f"select pgreact.settle(id, claim_id, 'failed', 'no') {_OF} 'running'",
    "settle to death": f"select pgreact.settle(id, claim_id, 'invalid', 'no') {_OF} 'claimed'",
    "snooze": f"select pgreact.snooze(id, claim_id, '1 s', false) {_OF} 'running'",
    "postpone": f"select pgreact.postpone(id, claim_id, retries, '1 ms', {_RETRY}, 'no') {_OF} 'silent'",
    "route_tasks": 'select pgreact.route_tasks(\'[{"name": "ready", "queue": "default"}]\')',
    "unanswered": "select pgreact.unanswered()",
    "abandon": f"select pgreact.abandon(id, claim_id, 0, 'w', 'failed', 'no') {_OF} 'running'",
    "maintain_history": "select pgreact.maintain_history()",
}
_PUT_OFF = {
    name for name in _CALLS if name.split()[0] in {"start", "settle", "snooze", "postpone", "abandon"}
}


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("lock", _LOCKS)
def test_every_function_answers_beside_a_lock_and_the_other_jobs_flow(
    queue: Queue, lock: str, end: str
) -> None:
    calls = list(_CALLS.items())
    if end == "rollback":
        calls.reverse()
    with queue.connect() as session:
        session.execute(_SCENE.encode())
        session.execute(f"set statement_timeout = {int(ANSWER * 1000)}")
        with held(queue, _LOCKS[lock]) as user:
            for name, call in calls:
                try:
                    session.execute(call.encode())
                except psycopg.errors.LockNotAvailable:
                    assert name in _PUT_OFF
                except psycopg.errors.QueryCanceled:
                    pytest.fail(f"{name} waits beside {lock}")
            free = {
                job
                for (job,) in session.execute(
                    "select pgreact.enqueue('free', lane => l) from unnest('{default,other}'::text[]) l"
                )
            }
            answer = (session.execute("select pgreact.claim(100)").fetchone() or [{}])[0]
            assert free <= {job["id"] for job in answer["jobs"]}
            assert answer["more"] or answer["next_s"] > 0, "it does not spin"
            for call in (
                "select pgreact.start(id, claim_id, 0, 'w') from pgreact.in_progress where task = 'free'",
                "select pgreact.settle(id, claim_id, 'done') from pgreact.in_progress where task = 'free'",
            ):
                session.execute(call.encode())
            assert not free & {job for (job,) in session.execute("select id from pgreact.in_progress")}
            getattr(user, end)()
    drain(queue)


# ---- claims ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["ready", "delayed"])
def test_a_lane_does_not_starve_behind_its_locked_jobs(queue: Queue, state: str) -> None:
    queue.run(
        "insert into pgreact.lane (name) values ('other')",
        "update pgreact.queue_setting set max_in_progress = 20",
        "insert into pgreact.queue (state, lane, task, run_at) "
        f"select '{state}', case when n <= 550 then 'default' else 'other' end, 't', now() - interval '1 h' "
        "from generate_series(1, 1000) n",
    )
    with held(queue, "select pgreact.cancel(n) from generate_series(1, 500) n"):
        claimed = queue.claimed()
        assert sorted(claimed) == [*range(501, 511), *range(551, 561)], "each lane has its half, in order"
        for job in claimed:
            queue.settle(job)
        assert len(queue.claimed()) == 20


def test_places_that_a_locked_lane_cannot_fill_go_to_others(queue: Queue) -> None:
    queue.run("insert into pgreact.lane (name) values ('other')")
    queue.run("insert into pgreact.queue (task) select 't' from generate_series(1, 50)")
    others = [queue.add(lane="'other'") for _ in range(10)]
    with held(queue, "select from pgreact.queue where lane = 'default' for update"):
        answer = queue.claim(10)
    assert [job["id"] for job in answer["jobs"]] == others


def test_a_claim_reads_a_bounded_number_of_locked_rows(queue: Queue) -> None:
    queue.run(
        "insert into pgreact.lane (name) values ('other')",
        "insert into pgreact.queue (state, task, run_at) "
        "select case n % 2 when 0 then 'ready' else 'delayed' end, 't', "
        "now() from generate_series(1, 60000) n",
    )
    free = queue.add(lane="'other'")
    with held(queue, "select from pgreact.queue where lane = 'default' for update"):
        began = time.monotonic()
        answer = queue.claim()
        assert time.monotonic() - began < ANSWER
    assert [job["id"] for job in answer["jobs"]] == [free]


def test_a_claim_beside_locked_rows_comes_again_in_a_second(queue: Queue) -> None:
    queue.run(
        "select pgreact.enqueue('t', run_at => clock_timestamp() + interval '1 ms'), pgreact.enqueue('t')"
    )
    job = queue.add()
    assert len(queue.claimed()) == 3
    queue.start(job)
    queue.run(
        "update pgreact.in_progress set lease_until = clock_timestamp()",
        "insert into pgreact.queue (lane, state, task, run_at) "
        "values ('default', 'ready', 't', now()), ('default', 'delayed', 't', now())",
    )
    locks = "select from pgreact.queue for update; select from pgreact.in_progress for update"
    with held(queue, locks):
        for _ in range(2):
            answer = queue.claim()
            assert (answer["jobs"], answer["more"]) == ([], False)
            assert answer["next_s"] == pytest.approx(1, abs=0.2)
    assert len(queue.claimed()) == 4, "a rollback tells nobody"


def test_a_claim_leaves_the_queue_to_another_claim(queue: Queue) -> None:
    job = queue.add()
    with held(queue, "select from pgreact.queue_state for update"):
        answer = queue.claim()
        assert (answer["jobs"], answer["claimed"], answer["next_s"]) == ([], 0, 0.1)
    assert queue.claimed() == [job]


def test_an_attempt_that_may_be_cancelled_is_not_published_again(queue: Queue) -> None:
    job = queue.add()
    assert queue.claimed() == [job]
    queue.run("select pgreact.unpublished()")
    with held(queue, f"select pgreact.cancel({job})"):
        assert queue.claim()["jobs"] == []
    assert [found["id"] for found in queue.claim()["jobs"]] == [job]


# ---- keys --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("come", ["before", "meanwhile"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("where", ["waits", "is claimed", "runs"])
def test_jobs_blocked_while_the_job_ahead_was_locked_go_when_it_is_gone(
    queue: Queue, where: str, end: str, come: str
) -> None:
    first = queue.add(key="'k'")
    if where != "waits":
        queue.claimed()
    if where == "runs":
        queue.start(first)
    jobs = [queue.add(key="'k'") for _ in range(3 if come == "before" else 0)]
    with held(queue, f"select pgreact.cancel({first})") as user:
        # the cancel has looked for the next one, and has seen none
        jobs += [queue.add(key="'k'") for _ in range(3 if come == "meanwhile" else 0)]
        for _ in range(3):
            assert queue.claimed() == []
        if come == "meanwhile":
            assert queue.value("select bool_and(state = 'blocked') from pgreact.queue where id <> %s", first)
        getattr(user, end)()
    if where == "runs":
        queue.settle(first)
    elif end == "rollback":
        if where == "waits":
            assert queue.claimed() == [first]
        assert queue.claimed() == []
        queue.settle(first)
    for job in jobs:
        assert queue.claimed() == [job]
        queue.settle(job)


def test_a_key_is_contested_once_however_many_wait_for_it(queue: Queue) -> None:
    first = queue.add(key="'k'")
    queue.claimed()
    with held(queue, f"select pgreact.cancel({first})"):
        for _ in range(5):
            queue.add(key="'k'", priority="9")
            queue.claimed()
        assert queue.value("select count(*) from pgreact.contested_key") == 1
    queue.claimed()
    assert queue.value("select count(*) from pgreact.contested_key") == 0


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_neighbours_of_a_key_taken_away_at_once_let_the_next_one_go(
    queue: Queue, order: tuple[int, ...]
) -> None:
    """The first two are cancelled and the third is read by a claim, in any order, before either commits."""
    first, second = queue.add(key="'k'"), queue.add(key="'k'", priority="-5")
    third = queue.add(key="'k'", priority="5")
    with queue.connect(autocommit=False) as one, queue.connect(autocommit=False) as two:
        for user in (one, two):
            user.execute("set local lock_timeout = '200ms'")
        steps: list[Callable[[], object]] = [
            lambda: one.execute("select pgreact.cancel(%s)", (first,)),
            lambda: two.execute("select pgreact.cancel(%s)", (second,)),
            lambda: queue.claim(1),
        ]
        cancelled = {first, second}
        for step in order:
            try:
                steps[step]()
            except psycopg.errors.LockNotAvailable:  # a user may wait for a user
                cancelled.discard([first, second][step])
                [one, two][step].rollback()
        one.commit()
        two.commit()
    for job in (first, second, third):
        if job not in cancelled or queue.state(job) is not None:
            if queue.state(job) != "in progress":
                assert queue.claimed() == [job]
            queue.settle(job)


def test_a_settlement_leaves_a_locked_next_job_to_the_claims(queue: Queue) -> None:
    first, second = queue.add(key="'k'"), queue.add(key="'k'")
    assert queue.claimed() == [first]
    assert queue.state(second) == "blocked" or queue.claimed() == []
    with held(queue, f"update pgreact.queue set priority = 3 where id = {second}") as user:
        assert queue.settle(first)
        assert queue.claim()["next_s"] == pytest.approx(1, abs=0.2)
        user.commit()
    assert queue.claimed() == [second]


def test_keys_are_looked_at_again_whatever_rounds_pass_meanwhile(queue: Queue) -> None:
    first, second = queue.add(key="'k'"), queue.add(key="'k'")
    queue.claimed()
    queue.claimed()
    with held(queue, f"select from pgreact.queue where id = {second} for update"):
        queue.settle(first)
        for _ in range(5):
            other = queue.add()
            assert queue.claimed() == [other]
            queue.settle(other)
    assert queue.claimed() == [second]


def test_no_job_is_stranded_and_keys_stay_in_order_whatever_rows_users_lock(queue: Queue) -> None:
    """Claims and workers run beside users who enqueue, cancel and edit, and commit late or roll back."""
    dice = random.Random(20261128)
    over = threading.Event()
    failures: list[str] = []
    acts = (
        "select pgreact.enqueue('t', key => %(key)s, priority => %(n)s, backoff => '0')",
        "select pgreact.enqueue('t', unique_key => %(key)s, backoff => '0')",
        "select pgreact.cancel((select id from pgreact.queue order by random() limit 1))",
        "select pgreact.cancel((select id from pgreact.in_progress order by random() limit 1))",
        "update pgreact.queue set priority = %(n)s where key = %(key)s",
    )

    def user(seed: float) -> None:
        own = random.Random(seed)
        with queue.connect(autocommit=False) as session:
            for _ in range(150):
                with contextlib.suppress(psycopg.errors.DeadlockDetected):
                    for _ in range(own.randint(1, 4)):
                        values = {"key": f"k{own.randint(1, 4)}", "n": own.randint(-3, 3)}
                        session.execute(own.choice(acts).encode(), values)
                    if own.random() < 0.3:
                        session.rollback()
                    session.commit()
                session.rollback()

    def worker(seed: float) -> None:
        own = random.Random(seed)
        with queue.connect() as session:
            while not over.is_set():
                row = session.execute(
                    "select id, claim_id from pgreact.in_progress order by random() limit 1"
                ).fetchone()
                if row is None:
                    continue
                outcome = own.choice(["done", "done", "failed", "lost", "invalid"])
                with contextlib.suppress(psycopg.errors.LockNotAvailable):
                    session.execute("select pgreact.start(%s, %s, 0, 'w')", row)
                    session.execute("select pgreact.renew(array[%s], array[%s])", row)
                    session.execute("select pgreact.settle(%s, %s, %s)", (*row, outcome))

    def dispatcher() -> None:
        with queue.connect() as session:
            session.execute("set statement_timeout = '5s'")
            while not over.is_set():
                session.execute("select pgreact.claim(20)")
                twice = session.execute(_TWICE).fetchall()
                if twice:
                    failures.append(f"two in progress of {twice}")

    def watched(run: Callable[..., None], *args: float) -> None:
        try:
            run(*args)
        except Exception as error:  # noqa: BLE001 - shown below
            failures.append(f"{run.__name__}: {error!r}")

    users = [threading.Thread(target=watched, args=(user, dice.random())) for _ in range(4)]
    others = [threading.Thread(target=watched, args=(worker, dice.random())) for _ in range(3)]
    others.append(threading.Thread(target=watched, args=(dispatcher,)))
    for thread in [*users, *others]:
        thread.start()
    for thread in users:
        thread.join()
    over.set()
    for thread in others:
        thread.join()
    assert failures == []
    queue.run("update pgreact.queue set run_at = now() where state = 'delayed'")
    drain(queue)


# ---- unique keys -------------------------------------------------------------------------------------------


def test_a_lost_job_leaves_its_unique_key_to_an_enqueue_that_has_not_committed(queue: Queue) -> None:
    job = queue.add(unique_key="'u'", max_attempts="2")
    queue.claimed()
    queue.start(job)
    queue.run("update pgreact.in_progress set lease_until = clock_timestamp()")
    with held(queue, "select pgreact.enqueue('t', unique_key => 'u')") as user:
        free = queue.add()
        began = time.monotonic()
        assert set(queue.claimed()) == {job, free}
        assert time.monotonic() - began < 1
        user.commit()
    queue.settle(job, "failed")
    assert queue.value("select array_agg(id) from pgreact.queue where unique_key = 'u'") != [job]
    assert queue.state(job) == "delayed"


def test_a_failed_job_keeps_its_unique_key_without_a_rival(queue: Queue) -> None:
    job = queue.add(unique_key="'u'", max_attempts="2")
    queue.claimed()
    queue.settle(job, "failed")
    assert queue.add(unique_key="'u'") == job
    assert queue.value("select setting from pg_settings where name = 'lock_timeout'") == "0"


def test_an_enqueue_that_finds_its_unique_key_in_progress_blocks_no_other(queue: Queue) -> None:
    job = queue.add(unique_key="'u'", unique_while="'in_progress'", max_attempts="2")
    queue.claimed()
    with held(queue, "select pgreact.enqueue('t', unique_key => 'u', unique_while => 'in_progress')"):
        queue.settle(job, "failed")
    assert queue.value("select unique_key from pgreact.queue where id = %s", job) == "u"


# ---- leases ------------------------------------------------------------------------------------------------


def test_a_locked_job_does_not_cost_its_neighbours_their_leases(queue: Queue) -> None:
    jobs = [queue.add() for _ in range(3)]
    queue.claimed()
    for job in jobs:
        queue.start(job)
    queue.run("update pgreact.in_progress set lease_until = clock_timestamp()")
    renew = (
        "select to_jsonb(r) from (select array_agg(id) as jobs, array_agg(claim_id) as claims "
        "from pgreact.in_progress) p cross join lateral pgreact.renew(jobs, claims) r"
    )
    with held(queue, f"select pgreact.cancel({jobs[1]})"):
        assert queue.value(renew) == {"lease_s": 60, "skipped": [jobs[1]]}
        assert queue.claimed() == []
        assert {queue.state(job) for job in jobs} == {"in progress"}
    assert queue.value(renew) == {"lease_s": 60, "skipped": []}


@pytest.mark.parametrize("alive", [True, False])
def test_a_lease_that_could_not_be_renewed_gets_time_when_the_lock_is_gone(queue: Queue, alive: bool) -> None:
    first, second = queue.add(key="'k'"), queue.add(key="'k'")
    queue.claimed()
    queue.start(first)
    queue.run("update pgreact.in_progress set lease_until = clock_timestamp()")
    with held(queue, f"select pgreact.cancel({first})") as user:
        assert queue.claimed() == []
        user.commit()
    assert queue.claimed() == [], "its worker is asked first"
    assert queue.state(first) == "in progress"
    left = queue.value(
        "select extract(epoch from lease_until - clock_timestamp())::float8 from pgreact.in_progress"
    )
    assert left == pytest.approx(10, abs=1)
    if alive:
        queue.run("select pgreact.renew(array[id], array[claim_id]) from pgreact.in_progress")
        assert queue.claimed() == []
    else:
        queue.run("update pgreact.in_progress set lease_until = clock_timestamp()")
        assert queue.claimed() == [second]
        assert queue.state(first) == "lost", "it was cancelled, so it is not tried again"


@pytest.mark.parametrize("known", [True, False], ids=["by claim_id", "of the last claim"])
def test_unpublished_returns_attempts_that_it_could_not_revert(queue: Queue, known: bool) -> None:
    jobs = [queue.add() for _ in range(3)]
    claims = {job["id"]: job["claim_id"] for job in queue.claim()["jobs"]}
    revert = "select pgreact.unpublished(%s::uuid[])::text[]"
    with held(queue, f"select pgreact.cancel({jobs[0]})") as user:
        assert queue.value(revert, list(claims.values()) if known else None) == [claims[jobs[0]]]
        assert queue.value("select count(*) from pgreact.in_progress where published_at is null") == 2
        user.commit()
    assert queue.value(revert, [claims[jobs[0]]]) == [], "what is gone needs no message"
    assert queue.value(revert, []) == []


# ---- housekeeping ------------------------------------------------------------------------------------------

_PARTITIONS = (
    "select coalesce(array_agg(inhrelid::regclass::text order by 1), '{}') from pg_inherits "
    "where inhparent = 'pgreact.history'::regclass"
)


@pytest.fixture
def bare(queue: Queue) -> Queue:
    """A queue whose history has no partition."""
    with queue.connect() as connection:
        for name in queue.value(_PARTITIONS):
            connection.execute(f"drop table {name}".encode())
    return queue


def test_partitions_are_made_beside_a_reader_of_the_history(bare: Queue) -> None:
    reader = (
        "lock table pgreact.history, pgreact.history_rest in access share mode; select from pgreact.history"
    )
    with held(bare, reader):
        bare.run("set statement_timeout = '2s'; update pgreact.queue_setting set retention = '2 days'")
        assert len(bare.value(_PARTITIONS)) == 3
        job = bare.add()
        bare.claimed()
        assert bare.settle(job)
    assert bare.value("select id from pgreact.history") == job
    assert bare.value("select pgreact.maintain_history()") is True


def test_old_partitions_are_dropped_when_no_reader_is_in_the_way(bare: Queue) -> None:
    bare.run(
        "create table pgreact.history_20200101 partition of pgreact.history "
        "for values from ('2020-01-01') to ('2020-01-02')",
        "update pgreact.queue_setting set retention = '2 days'",
    )
    for table in ("history", "history_20200101"):
        with held(bare, f"select from pgreact.{table}"), bare.connect() as session:
            session.execute("set statement_timeout = '2s'")
            assert session.execute("select pgreact.maintain_history()").fetchone() == (False,)
            assert "pgreact.history_20200101" in bare.value(_PARTITIONS)
    assert bare.value("select pgreact.maintain_history()") is True
    assert "pgreact.history_20200101" not in bare.value(_PARTITIONS)


def test_housekeeping_beside_housekeeping_does_no_harm(bare: Queue) -> None:
    bare.run("update pgreact.queue_setting set retention = '2 days'")
    for name in bare.value(_PARTITIONS):
        bare.run(f"drop table {name}")
    with held(bare, "select pgreact.maintain_history()") as other:
        assert bare.value("select pgreact.maintain_history()") is False
        other.commit()
    assert bare.value("select pgreact.maintain_history()") is True
    assert len(bare.value(_PARTITIONS)) == 3


def test_attempts_of_a_day_without_a_partition_are_moved_there(bare: Queue) -> None:
    bare.run("update pgreact.queue_setting set retention = '4 days'")
    for name in bare.value(_PARTITIONS):
        bare.run(f"drop table {name}")
    job = bare.add()
    bare.claimed()
    assert bare.settle(job)
    assert bare.value("select id from pgreact.history_rest") == job
    bare.run(
        "insert into pgreact.history_rest "
        "select (h).* from (select jsonb_populate_record(h, jsonb_build_object("
        "'id', n + 10, 'settled_at', now() - n * interval '1 day')) as h from pgreact.history_rest h, "
        "generate_series(1, 6) n) h"
    )
    assert bare.value("select pgreact.maintain_history()") is True
    assert bare.value("select count(*) from pgreact.history_rest") == 0
    assert bare.value("select array_agg(id order by id) from pgreact.history") == [job, 11, 12, 13]
    bare.run("update pgreact.queue_setting set retention = null")
    assert bare.value("select pgreact.maintain_history()") is True


def test_dead_jobs_are_forgotten_after_their_retention_a_batch_at_a_time(queue: Queue) -> None:
    queue.run(
        "insert into pgreact.dead (id, lane, task, args, kwargs, priority, attempt, max_attempts, backoff, "
        "options, enqueued_at, task_id, died_at, outcome) "
        "select n, 'default', 't', '[]', '{}', 0, 1, 1, '0', '{}', now(), "
        "gen_random_uuid(), now() - n * interval '1 min', 'failed' from generate_series(1, 15000) n"
    )
    assert queue.value("select pgreact.maintain_history()") is True
    assert queue.value("select count(*) from pgreact.dead") == 15000
    queue.run("update pgreact.queue_setting set dead_retention = '2 h'")
    with held(queue, "select from pgreact.dead where id = 15000 for update"):
        assert queue.value("select pgreact.maintain_history()") is False
        assert queue.value("select count(*) from pgreact.dead") == 5000
        assert queue.value("select pgreact.maintain_history()") is True
        assert queue.value("select max(id) filter (where id < 15000) from pgreact.dead") in {119, 120}
    assert queue.value("select pgreact.maintain_history()") is True
    assert queue.value("select max(id) from pgreact.dead") in {119, 120}


def test_every_function_works_under_a_publication_of_all_tables(bare: Queue) -> None:
    with bare.connect() as session:
        session.execute(
            "create table pgreact.history_20200101 partition of pgreact.history "
            "for values from ('2020-01-01') to ('2020-01-02')"
        )
        session.execute("create publication everything for all tables")
        try:
            session.execute(_SCENE.encode())
            bare.run(
                "insert into pgreact.history_rest "
                "(id, lane, task, attempt, outcome, enqueued_at, settled_at) "
                "select n, 'l', 't', 1, 'done', now(), now() - n * interval '12 h' "
                "from generate_series(0, 5) n"
            )
            for call in _CALLS.values():
                session.execute(call.encode())
            assert session.execute("select pgreact.maintain_history()").fetchone() == (True,)
            assert session.execute("select count(*) from pgreact.dead where task = 'dead'").fetchone() == (0,)
            drain(bare)
            session.execute("delete from pgreact.history")
            session.execute("update pgreact.schedule_history set error = null")
            unnamed = session.execute(
                "select c.oid::regclass::text from pg_class c "
                "join pg_publication_tables t on t.tablename = c.relname and t.schemaname = 'pgreact' "
                "where c.relnamespace = 'pgreact'::regnamespace and c.relreplident = 'd' "
                "and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)"
            ).fetchall()
            assert unnamed == []
        finally:
            session.execute("drop publication everything")
