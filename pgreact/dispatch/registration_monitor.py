"""The registration monitor: asks the workers for their tasks, and reports routes whose task none has."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Protocol

from celery import Celery

from pgreact import logs
from pgreact.broker import remote_control
from pgreact.broker.connection import BrokerConnection, PublishFailed
from pgreact.dispatch import registration
from pgreact.dispatch.dispatcher import Runner
from pgreact.dispatch.registration import Registered
from pgreact.dispatch.route import QUEUE_ROUTE
from pgreact.postgres.trouble import Troubles

FIRST = 10.0  # seconds after an election, or a change of the routes, until the workers are asked
WAIT = 1.0  # seconds to wait for another worker's reply
DEADLINE = 10.0  # seconds for all replies


class Workers(Protocol):
    """The workers of a Celery application."""

    async def registered(self) -> Registered | None:
        """Return the tasks that the workers registered; ``None``: no worker replied."""
        ...


class CeleryWorkers:
    """The workers of a Celery application, asked by its remote control.

    Each question has a thread and a connection of its own, so that no dispatch waits for one.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app

    async def registered(self) -> Registered | None:
        """Return the tasks that the workers registered; see :class:`Workers`."""
        found = await self.ask("registered") or {}
        replies = [reply for reply in found.values() if isinstance(reply, list)]
        if not replies:
            return None
        return Registered(len(replies), frozenset(name for reply in replies for name in reply))

    async def ask(self, command: str, **arguments: object) -> dict[str, Any] | None:
        """Return the replies to an inspect command, by the name of the worker.

        Args:
            command: Its name.
            **arguments: Its arguments.

        Returns:
            ``None``: no worker could be asked, since the broker is away or carries no questions to workers.
        """
        try:
            return await remote_control.ask(
                self._app, DEADLINE, lambda connection: self._inspect(connection, command, arguments)
            )
        except PublishFailed:
            return None  # a dispatch reports what is wrong with the broker

    def _inspect(
        self, connection: BrokerConnection, command: str, arguments: dict[str, object]
    ) -> dict[str, Any]:
        found = self._app.control.broadcast(
            command, arguments=arguments, reply=True, timeout=WAIT, connection=connection.connection
        )
        return {worker: reply for replies in found or () for worker, reply in replies.items()}


class RegistrationMonitor:
    """Asks the workers when it is due, and reports routes whose task none of them has."""

    def __init__(self, workers: Workers, runners: Mapping[int, Runner], troubles: Troubles) -> None:
        """Ask nothing yet.

        Args:
            workers: The workers to ask.
            runners: Of the routes in force, by id; the built-in route has no task.
            troubles: Gets the reports for ``pgreact status``.
        """
        self._workers = workers
        self._runners = runners
        self._troubles = troubles
        self._state = registration.State()
        self._reported: dict[int, tuple[str, str]] = {}  # task and subject of each reported route
        self._known_tasks = self._tasks()
        self._changed = asyncio.Event()

    def routes_changed(self) -> None:
        """Ask soon if a route was added or has another task."""
        if (tasks := self._tasks()) != self._known_tasks:
            self._known_tasks = tasks
            self._changed.set()

    async def run(self) -> None:
        """Ask when it is due, for ever."""
        wait: float | None = FIRST
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
                        wait = FIRST
                if self._changed.is_set():
                    self._changed.clear()
                    self._forget_removed()
                    continue
                wait = await self._ask()
        finally:
            for route in list(self._reported):
                self._withdraw(route)

    async def _ask(self) -> float | None:
        """Ask, and return the seconds until the next time; ``None``: until the routes change."""
        if not self._tasks():
            return None
        registered = await self._workers.registered()
        update = registration.update(self._state, tasks := self._tasks(), registered)
        self._state = update.state
        for route in update.unregistered:
            name, workers = self._runners[route].route.name, registered.workers if registered else 0
            hint = "is the name right, and do the workers import its module?"
            logs.emit(logs.RouteUnregistered(route=name, task=tasks[route], workers=workers, hint=hint))
            subject = f"task of route {name}"
            self._reported[route] = tasks[route], subject
            self._troubles.report(
                subject,
                f'none of the {workers} workers that replied has registered "{tasks[route]}": {hint}',
            )
        for route in update.registered:
            self._withdraw(route)
            if route in tasks:
                logs.emit(logs.RouteRegistered(route=self._runners[route].route.name, task=tasks[route]))
        return update.ask_in

    def _tasks(self) -> dict[int, str]:
        return {
            route_id: runner.route.task
            for route_id, runner in self._runners.items()
            if runner.route.name != QUEUE_ROUTE
        }

    def _forget_removed(self) -> None:
        tasks = self._tasks()
        # not the state's tasks: a reply to a question asked before the change has taken the old one out
        for route, (task, _) in list(self._reported.items()):
            if tasks.get(route) != task:
                self._withdraw(route)

    def _withdraw(self, route: int) -> None:
        if reported := self._reported.pop(route, None):
            self._troubles.report(reported[1], None)
