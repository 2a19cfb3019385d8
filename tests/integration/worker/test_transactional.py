"""``delay()`` in a transaction: where calls run, with a daemon, a worker, a broker and a result backend."""

import gc
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import chain, chord, group
from celery.result import AsyncResult, GroupResult

import pgreact
from pgreact.demo.postgres import EmbeddedPostgres
from tests import delay_app
from tests.harness import Daemon, Database, fresh_database, install
from tests.worker import ROOT, Worker

WAIT = 20  # seconds for a result


class Stand:
    """A database with a daemon and a worker of ``tests.delay_app``, and that application in this process."""

    def __init__(self, database: Database, worker: Worker, daemon: Daemon) -> None:
        self.database, self.worker, self.daemon = database, worker, daemon

    def transaction(self) -> Any:
        return delay_app.transaction(self.database.dsn)


@pytest.fixture(scope="module")
def stand(
    postgres: EmbeddedPostgres, redis_url: str, tmp_path_factory: pytest.TempPathFactory, _defaults: None
) -> Iterator[Stand]:
    with fresh_database(postgres) as database:
        install(database, {})
        database.run(
            "update pgreact.queue_setting set retention = '1 day'", "select pgreact.maintain_history()"
        )
        queue = f"q_{uuid4().hex[:12]}"
        environ = {
            "PGREACT_DSN": database.dsn,
            "TASK_DSN": database.dsn,
            "TASK_BROKER": redis_url,
            "TASK_QUEUE": queue,
            "PYTHONPATH": str(ROOT),
        }
        app = delay_app.app
        app.conf.update(broker_url=redis_url, result_backend=redis_url, task_default_queue=queue)
        pgreact.setup(app, database.dsn)
        worker = Worker(redis_url, queue, "threads", 4, environ, app="tests.delay_app")
        daemon = Daemon(
            database.dsn,
            redis_url,
            cwd=tmp_path_factory.mktemp("delay"),
            environ={**environ, "PGREACT_APP": "tests.delay_app"},
        )
        try:
            worker.wait_for_log(" ready.", 60)
            daemon.ready()
            yield Stand(database, worker, daemon)
        finally:
            gc.collect()  # Celery's results unsubscribe, which needs the backend
            app.close()
            daemon.kill()
            worker.stop()


# ---- with a worker -----------------------------------------------------------------------------------------


def test_a_call_runs_after_the_commit_and_its_result_comes(stand: Stand) -> None:
    with stand.transaction():
        result = delay_app.add.delay(2, 3)
        assert isinstance(result, AsyncResult)
        assert stand.database.value("select count(*) from pgreact.queue") == 0  # not committed yet
    assert result.get(timeout=WAIT) == 5


def test_a_call_is_never_sent_after_a_rollback(stand: Stand) -> None:
    with stand.transaction() as connection:
        dropped = delay_app.describe.delay()
        connection.rollback()
        kept = delay_app.describe.delay()
    assert kept.get(timeout=WAIT)["id"] == kept.id
    assert dropped.state == "PENDING"
    assert stand.database.value("select count(*) from pgreact.history where task_id = %s", dropped.id) == 0


def test_a_call_outside_a_transaction_is_a_job_at_once(stand: Stand) -> None:
    assert delay_app.describe.delay().get(timeout=WAIT)["job"]


def test_options_and_headers_reach_the_task(stand: Stand) -> None:
    with stand.transaction():
        result = delay_app.describe.apply_async(
            headers={"tenant": "t1"}, shadow="described", time_limit=60, soft_time_limit=50
        )
    found = result.get(timeout=WAIT)
    assert found["job"]
    assert (found["tenant"], found["shadow"], found["timelimit"]) == ("t1", "described", [60, 50])


def test_link_runs_after_the_task(stand: Stand) -> None:
    with stand.transaction():
        link = delay_app.add.s(10)
        linked = link.freeze()
        delay_app.add.apply_async((1, 2), link=link)
    assert linked.get(timeout=WAIT) == 13


def test_a_chain_has_the_ids_that_run(stand: Stand) -> None:
    with stand.transaction():
        result = chain(delay_app.add.s(1, 2), delay_app.add.s(3), delay_app.describe.s()).apply_async()
    found = result.get(timeout=WAIT)
    assert result.parent is not None
    assert result.parent.parent is not None
    assert (result.parent.get(), result.parent.parent.get()) == (6, 3)
    assert (found["id"], found["parent"]) == (result.id, result.parent.id)
    assert found["root"] == result.parent.parent.id
    assert found["job"] is None  # Celery sends what follows the first task
    assert len(list(result.parent.parent.collect())) == 3


def test_each_task_of_a_group_is_a_job(stand: Stand) -> None:
    with stand.transaction():
        result = group(delay_app.describe.s() for _ in range(3)).apply_async()
        assert isinstance(result, GroupResult)
    found = result.get(timeout=WAIT)
    assert [one["id"] for one in found] == [child.id for child in result.children]
    assert len({one["job"] for one in found} - {None}) == 3


def test_a_chord_calls_its_body_with_the_results(stand: Stand) -> None:
    with stand.transaction():
        result = chord([delay_app.add.s(1, 1), delay_app.add.s(2, 2)])(delay_app.total.s())
    assert result.get(timeout=WAIT) == 6
    assert isinstance(result.parent, GroupResult)
    assert result.parent.get(timeout=WAIT) == [2, 4]


def test_a_nested_canvas_runs(stand: Stand) -> None:
    add, total = delay_app.add, delay_app.total
    with stand.transaction():
        result = chain(
            add.s(1, 1), group(add.s(10), chain(add.s(20), add.s(30))), total.s(), group(add.s(1), add.s(2))
        ).apply_async()
        inner = group(
            chord([add.s(1, 2), add.s(3, 4)], total.s()), chain(add.s(1, 1), add.s(5))
        ).apply_async()
    assert result.get(timeout=WAIT) == [65, 66]
    assert inner.get(timeout=WAIT) == [10, 7]


def test_map_and_chunks_run(stand: Stand) -> None:
    with stand.transaction():
        mapped = delay_app.total.map([[1, 2], [3]]).apply_async()
        chunked = delay_app.add.chunks([(1, 1), (2, 2), (3, 3)], 2).apply_async()
    assert mapped.get(timeout=WAIT) == [3, 3]
    assert chunked.get(timeout=WAIT) == [[2, 4], [6]]


def test_a_canvas_that_rolls_back_is_never_sent(stand: Stand) -> None:
    with stand.transaction() as connection:
        add = delay_app.add
        chain(add.s(1, 2), add.s(3)).apply_async()
        group(add.s(1, 2), add.s(3, 4)).apply_async()
        chord([add.s(1, 2), add.s(3, 4)])(delay_app.total.s())
        (add.s(1, 2) | group(add.s(3), add.s(4))).apply_async()
        assert connection.execute("select count(*) from pgreact.queue").fetchone() == (6,)
        before = stand.database.value("select last_value from pgreact.queue_id_seq")
        connection.rollback()
        last = delay_app.describe.delay()
    assert last.get(timeout=WAIT)["job"] == before + 1


def test_a_task_calls_another_in_its_own_transaction(stand: Stand) -> None:
    dropped, kept, outside = (
        AsyncResult(delay_app.calling.delay(how).get(timeout=WAIT), app=delay_app.app)
        for how in ("rollback", "commit", "outside")
    )
    for result in (kept, outside):
        found = result.get(timeout=WAIT)
        assert found["job"]
        assert found["parent"]
        assert found["parent"] == found["root"]
    assert dropped.state == "PENDING"


@pytest.mark.parametrize("transactional", [True, False])
def test_a_retry_is_not_lost_with_the_transaction(stand: Stand, transactional: bool) -> None:
    result = delay_app.retrying.apply_async(transactional=transactional)
    assert result.get(timeout=WAIT) == {"retries": 1}


@pytest.mark.parametrize("transactional", [True, False])
def test_a_replacing_task_is_not_lost_with_the_transaction(stand: Stand, transactional: bool) -> None:
    result = delay_app.replaced.apply_async(transactional=transactional)
    found = result.get(timeout=WAIT)
    assert (found["id"], bool(found["job"])) == (result.id, transactional)


def test_a_chain_that_a_task_starts_runs(stand: Stand) -> None:
    last = AsyncResult(delay_app.starting.delay().get(timeout=WAIT), app=delay_app.app)
    assert last.get(timeout=WAIT) == 12


def test_an_enqueued_canvas_is_sent_as_messages(stand: Stand) -> None:
    canvas = group(delay_app.describe.s(), delay_app.describe.s())
    result = canvas.freeze()
    with stand.database.connect() as connection:
        pgreact.enqueue(connection, canvas)
    assert [one["job"] for one in result.get(timeout=WAIT)] == [None, None]


def test_a_class_with_its_own_apply_async_runs_it_where_the_call_is(stand: Stand) -> None:
    token = delay_app.tenant.set("t7")
    try:
        with stand.transaction():
            result = delay_app.of_tenant.delay()
    finally:
        delay_app.tenant.reset(token)
    assert result.get(timeout=WAIT) == "t7"  # the daemon, without a tenant, has not run it again


def test_a_call_that_opts_out_is_a_message_without_the_option(stand: Stand) -> None:
    with stand.transaction() as connection:
        result = delay_app.describe.apply_async(transactional=False)
        assert result.get(timeout=WAIT)["job"] is None
        connection.rollback()


def test_a_canvas_that_opts_out_is_messages(stand: Stand) -> None:
    add = delay_app.add
    with stand.transaction() as connection:
        results = [
            chain(add.s(1, 2), add.s(3)).apply_async(transactional=False),
            chord([add.s(1, 2), add.s(3, 4)])(delay_app.total.s(), transactional=False),
            group(add.s(1, 2), add.s(3, 4)).apply_async(transactional=False),
        ]
        assert [result.get(timeout=WAIT) for result in results] == [6, 10, [3, 7]]
        connection.rollback()
