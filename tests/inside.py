"""The daemon inside the tests' process, where parts of it can be replaced, and its events are objects."""

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
    """The daemon in this process, and what it logged."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.events: list[logs.Event] = []
        self.news = asyncio.Event()

    def note(self, event: logs.Event) -> None:
        """Keep an event."""
        self.events.append(event)
        self.news.set()

    def count(self, kind: type[logs.Event], **keys: object) -> int:
        """Return how many such events there were."""
        return sum(
            isinstance(event, kind) and all(getattr(event, key) == value for key, value in keys.items())
            for event in self.events
        )

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something that an event or a statement makes true."""
        try:
            async with asyncio.timeout(DEADLINE):
                while not condition():
                    self.news.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self.news.wait(), 0.01)
        except TimeoutError:
            raise AssertionError(f"not in {DEADLINE:g} s: {what}; {self.events[-20:]}") from None


@contextlib.asynccontextmanager
async def running(database: Database, broker: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """Run a daemon until the block ends, and then see it stop in order."""
    daemon = Daemon(
        Settings.model_validate({"dsn": database.dsn, "broker": broker, "application": "proj"}), Clock()
    )
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
