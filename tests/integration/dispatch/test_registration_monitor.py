"""Workers are asked whether they know the tasks of the routes."""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

from pgreact import logs
from pgreact.dispatch import registration, registration_monitor
from pgreact.dispatch.registration_monitor import CeleryWorkers
from tests.command import pgreact
from tests.harness import Database, Inbox
from tests.in_process import Running, running
from tests.jobs_cluster import JobsWorker
from tests.worker import Worker

Install = Callable[..., None]
Start = Callable[[type[Worker]], Worker]

KNOWN, UNKNOWN = "tests.worker_app.plain", "proj.no_such"


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Questions follow each other soon, and are counted."""
    monkeypatch.setattr(registration_monitor, "FIRST", 0.05)
    for pause in ("CONFIRM", "AGAIN", "SELDOM"):
        monkeypatch.setattr(registration, pause, 0.05)
    count: Counter[str] = Counter()
    ask = CeleryWorkers.registered

    async def counted(self: CeleryWorkers) -> Any:
        answer = await ask(self)
        count["answered" if answer else "silent"] += 1
        return answer

    monkeypatch.setattr(CeleryWorkers, "registered", counted)
    return count


@pytest.fixture
def two(database: Database, inbox: Inbox, installed: Install) -> Database:
    """A database with a route whose task a worker knows, and one whose task it does not."""
    database.run("create table job_queue (id int)")
    routes = {
        name: {
            "task": task,
            "options": inbox.options,
            "tables": [{"table": "job_queue", "on": ["insert"]}] if name == "right" else [],
        }
        for name, task in {"right": KNOWN, "wrong": UNKNOWN}.items()
    }
    installed(database, {"routes": routes})
    return database


@pytest.fixture
def start(database: Database, inbox: Inbox) -> Iterator[Start]:
    """Starts workers, which consume a queue that no route's calls go to."""
    workers: list[Worker] = []

    def begin(kind: type[Worker]) -> Worker:
        environ = {"TASK_DSN": database.dsn, "PGREACT_DSN": database.dsn}
        workers.append(kind(inbox.url, f"{inbox.queue}_idle", "solo", 1, environ))
        workers[-1].wait_for_log(" ready.", 60)
        return workers[-1]

    yield begin
    for worker in workers:
        worker.stop()


def troubles(database: Database) -> list[str]:
    found = json.loads(pgreact("status", "--json", dsn=database.dsn).out)
    assert found["healthy"] == (not found["troubles"])
    return [f"{trouble['subject']}: {trouble['error']}" for trouble in found["troubles"]]


async def until_said(run: Running, database: Database, count: int) -> list[str]:
    await run.until(
        lambda: database.value("select count(*) from pgreact.trouble") == count, f"{count} troubles are shown"
    )
    return troubles(database)


async def test_a_route_with_an_unregistered_task_is_reported_once_and_when_it_is_over(
    two: Database, inbox: Inbox, start: Start, asked: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start(Worker)
    async with running(two, inbox.url, monkeypatch) as run:
        await run.until(lambda: run.count(logs.RouteUnregistered), "it is reported")
        (told,) = await until_said(run, two, 1)
        assert told.startswith(
            f'task of route wrong: none of the 1 workers that replied has registered "{UNKNOWN}": is '
        )
        before = asked["answered"]
        await run.until(lambda: asked["answered"] > before + 1, "they are asked again")
        assert run.count(logs.RouteUnregistered, route="wrong", task=UNKNOWN, workers=1) == 1
        assert run.count(logs.RouteUnregistered) == 1
        two.run(f"update pgreact.route set task = '{KNOWN}' where name = 'wrong'")
        assert await until_said(run, two, 0) == []
        two.run("update pgreact.route set task = 'tests.jobs_app.noop' where name = 'wrong'")
        await run.until(lambda: run.count(logs.RouteUnregistered) == 2, "the other task is not known, either")
        start(JobsWorker)
        await run.until(lambda: run.count(logs.RouteRegistered, route="wrong"), "a worker knows it")
        assert await until_said(run, two, 0) == []


async def test_workers_that_do_not_reply_prove_nothing(
    two: Database, inbox: Inbox, asked: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(two, inbox.url, monkeypatch) as run:
        await run.until(lambda: asked["silent"] >= 3, "they are asked three times")
        assert not run.count(logs.RouteUnregistered)
        assert troubles(two) == []
    assert not asked["answered"]


async def test_a_broker_that_hangs_counts_as_no_reply_and_stops_no_dispatch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registration_monitor, "DEADLINE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as hole:
        app = Celery(broker=f"amqp://127.0.0.1:{hole.getsockname()[1]}//", set_as_current=False)
        asking = asyncio.create_task(CeleryWorkers(app).registered())
        turns = 0
        while not asking.done():
            turns += 1
            await asyncio.sleep(0)
        assert await asking is None
    assert turns > 100  # of the event loop, meanwhile
