"""A daemon inside the tests' process: its parts can be replaced, and its log events are objects."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from pgreact import logs
from pgreact.clock import Clock
from pgreact.daemon.daemon import Daemon
from pgreact.settings import Settings
from tests.harness import DEADLINE, Database


class Running:
    """The daemon in this process, and its log events."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.events: list[logs.Event] = []
        self.added = asyncio.Event()

    def note(self, event: logs.Event) -> None:
        self.events.append(event)
        self.added.set()

    def count(self, kind: type[logs.Event], **keys: object) -> int:
        """Return the number of events of this class and these keys."""
        return sum(
            isinstance(event, kind) and all(getattr(event, key) == value for key, value in keys.items())
            for event in self.events
        )

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition, checked at each event and every 10 ms."""
        try:
            async with asyncio.timeout(DEADLINE):
                while not condition():
                    self.added.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self.added.wait(), 0.01)
        except TimeoutError:
            raise AssertionError(f"not in {DEADLINE:g} s: {what}; {self.events[-20:]}") from None


@contextlib.asynccontextmanager
async def running(
    database: Database, broker: str, monkeypatch: pytest.MonkeyPatch, **settings: object
) -> AsyncIterator[Running]:
    """Run a daemon, with further settings; at the end of the block it must stop in order."""
    values = {"dsn": database.dsn, "broker": broker, "application": "proj", **settings}
    daemon = Daemon(Settings.model_validate(values), Clock())
    run = Running(daemon)
    monkeypatch.setattr(logs, "emit", run.note)
    task = asyncio.create_task(daemon.run())
    try:
        yield run
        assert not task.done(), task
    finally:
        daemon._stop.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, DEADLINE)
        await daemon.close()
