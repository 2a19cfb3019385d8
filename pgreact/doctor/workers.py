"""Ask the workers: once, all together, and with a deadline for all of it."""

import asyncio
import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from celery import Celery

from pgreact.broker import remote_control
from pgreact.broker.connection import BrokerConnection
from pgreact.worker.report import COMMAND

WAIT = 1.0  # seconds to wait for another worker's reply
DEADLINE = 6.0  # seconds for all replies


@dataclasses.dataclass(frozen=True)
class Worker:
    """One worker, as it says of itself."""

    name: str
    setup: bool  # it runs jobs: its application calls pgreact.setup
    queues: frozenset[str]
    tasks: frozenset[str]
    places: int  # tasks that it runs at a time
    version: str | None = None  # of pgreact
    database: Mapping[str, Any] | None = None  # id, role, error, refused
    visibility_timeout: float | None = None
    ahead: float = 0.0  # seconds that its clock is ahead of this host's, at least; negative: behind


async def ask(app: Celery) -> list[Worker]:
    """Return the workers of an application that replied.

    Raises:
        CannotAsk: The broker is connected, and carries no questions to workers.
        PublishFailed: The broker cannot be reached, or did not answer in time.
    """
    reports, names = await asyncio.gather(_call(app, _reports), _call(app, _names))
    others = sorted(names - {worker.name for worker in reports})
    if others:
        # without pgreact.setup: they know Celery's own commands
        reports += await _call(app, lambda connection: _plain(connection, others))
    return sorted(reports, key=lambda worker: worker.name)


async def _call(app: Celery, function: Any) -> Any:
    return await remote_control.ask(app, DEADLINE, function)


def _reports(connection: BrokerConnection) -> list[Worker]:
    arrivals: list[tuple[dict[str, Any], float]] = []
    sent = time.time()
    connection.app.control.broadcast(
        COMMAND,
        reply=True,
        timeout=WAIT,
        connection=connection.connection,
        callback=lambda body: arrivals.append((body, time.time())),
    )
    return [
        _worker(name, reply, sent, arrived)
        for body, arrived in arrivals
        for name, reply in body.items()
        if isinstance(reply, dict) and "clock" in reply
    ]


def _worker(name: str, reply: dict[str, Any], sent: float, arrived: float) -> Worker:
    clock = float(reply["clock"])  # it was read between these two
    return Worker(
        name=name,
        setup=bool(reply["setup"]),
        queues=frozenset(reply["queues"]),
        tasks=frozenset(reply["tasks"]),
        places=int(reply["places"]),
        version=reply["pgreact"],
        database=reply["database"],
        visibility_timeout=reply["visibility_timeout"],
        ahead=max(0.0, clock - arrived) + min(0.0, clock - sent),
    )


def _names(connection: BrokerConnection) -> set[str]:
    replies = connection.app.control.ping(timeout=WAIT, connection=connection.connection) or []
    return {name for reply in replies for name in reply}


def _plain(connection: BrokerConnection, names: list[str]) -> list[Worker]:
    inspect = connection.app.control.inspect(names, WAIT, connection=connection.connection, limit=len(names))
    queues: dict[str, Any] = inspect.active_queues() or {}
    tasks: dict[str, Any] = inspect.registered() or {}
    stats: dict[str, Any] = inspect.stats() or {}
    return [
        Worker(
            name=name,
            setup=False,
            queues=frozenset(queue["name"] for queue in queues.get(name) or ()),
            # some are shown with their attributes: "name [rate_limit=…]"
            tasks=frozenset(task.partition(" ")[0] for task in tasks.get(name) or ()),
            places=int(stats.get(name, {}).get("pool", {}).get("max-concurrency") or 1),
        )
        for name in names
    ]
