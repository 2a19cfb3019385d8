"""Asks the workers whether they know the tasks of the routes: at the start, and seldom after."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Protocol

from celery import Celery

from pgreact import logs
from pgreact.broker.connection import Line, PublishFailed, Wire
from pgreact.dispatch.dispatcher import Runner
from pgreact.dispatch.registration import Answer, Known, judge
from pgreact.dispatch.route import QUEUE_ROUTE
from pgreact.postgres.trouble import Troubles

FIRST = 10.0  # seconds after an election, or a change of the routes, until the workers are asked
WAIT = 1.0  # seconds to wait for another worker's answer
DEADLINE = 10.0  # seconds for a whole inquiry


class Workers(Protocol):
    """What an inquiry needs of Celery."""

    async def ask(self) -> Answer | None:
        """Return what the workers that answer know; ``None``: nobody answered."""
        ...


class CeleryWorkers:
    """Asks the workers of a Celery application by its remote control.

    Each question has a thread and a connection of its own, so that none keeps a dispatch waiting.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app

    async def ask(self) -> Answer | None:
        """Return what the workers that answer know; see :class:`Workers`."""
        line = Line(self._app, DEADLINE)
        try:
            return await line.call(self._ask)
        except PublishFailed:
            return None  # what is wrong with the broker, a dispatch tells
        finally:
            line.close()

    def _ask(self, wire: Wire) -> Answer | None:
        assert wire.producer  # connects
        inspect = self._app.control.inspect(timeout=WAIT, connection=wire.connection)
        replies = [reply for reply in (inspect.registered() or {}).values() if isinstance(reply, list)]
        return (
            Answer(len(replies), frozenset(name for reply in replies for name in reply)) if replies else None
        )


class Inquiry:
    """Asks when it is due, and tells of routes whose task no worker knows."""

    def __init__(self, workers: Workers, runners: Mapping[int, Runner], troubles: Troubles) -> None:
        """Nothing is known yet.

        Args:
            workers: Whom to ask.
            runners: Of the routes as they are, by id; the built-in one has no task.
            troubles: Where it is reported for ``pgreact status``.
        """
        self._workers = workers
        self._runners = runners
        self._troubles = troubles
        self._known = Known()
        self._reported: dict[int, str] = {}
        self._seen = self._tasks()
        self._changed = asyncio.Event()

    def poke(self) -> None:
        """The routes may have changed."""
        if (tasks := self._tasks()) != self._seen:
            self._seen = tasks
            self._changed.set()

    async def run(self) -> None:
        """Ask for ever."""
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
                self._over(route)

    async def _ask(self) -> float | None:
        """Ask, and return the seconds until the next time."""
        if not self._tasks():
            return None
        answer = await self._workers.ask()
        verdict = judge(self._known, tasks := self._tasks(), answer)
        self._known = verdict.known
        for route in verdict.unanswered:
            name, workers = self._runners[route].route.name, answer.workers if answer else 0
            hint = "is it the right name, and do the workers import its module?"
            logs.emit(logs.RouteUnregistered(route=name, task=tasks[route], workers=workers, hint=hint))
            self._reported[route] = f"task of route {name}"
            self._troubles.note(
                self._reported[route], f'no worker that answers ({workers}) knows "{tasks[route]}": {hint}'
            )
        for route in verdict.answered:
            self._over(route)
            if route in tasks:
                logs.emit(logs.RouteRegistered(route=self._runners[route].route.name, task=tasks[route]))
        return verdict.ask_in

    def _tasks(self) -> dict[int, str]:
        return {
            number: runner.route.task
            for number, runner in self._runners.items()
            if runner.route.name != QUEUE_ROUTE
        }

    def _forget_removed(self) -> None:
        tasks = self._tasks()
        for route, task in self._known.unanswered:
            if tasks.get(route) != task:
                self._over(route)

    def _over(self, route: int) -> None:
        if subject := self._reported.pop(route, None):
            self._troubles.note(subject, None)
