"""Maintenance of the queue: partition and prune the history, prune dead jobs. It has a session of its own.

Its DDL may wait for locks that a reader of the history, such as ``pg_dump``, holds for hours; nothing else
waits with it.
"""

import asyncio

from pgreact.clock import Clock
from pgreact.postgres.application_name import application_name
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles

PAUSE = 3600.0  # seconds between two runs
SOON = 60.0  # seconds until the next run, after a lock was not free or when there is more to delete
TIMEOUT = 60.0


class Maintenance:
    """Runs the maintenance during one leader's term."""

    def __init__(self, dsn: str, clock: Clock, troubles: Troubles) -> None:
        self._dsn = dsn
        self._trouble = troubles["housekeeping"]
        self._clock = clock

    async def run(self) -> None:
        """Run the maintenance until cancelled. A lost session ends one run only."""
        while True:
            try:
                done = await self._maintain()
            except Exception as error:  # noqa: BLE001 - maintenance can wait, whatever failed
                await asyncio.sleep(max(SOON, self._trouble.failed(error)))
            else:
                self._trouble.recovered()
                await asyncio.sleep(PAUSE if done else SOON)

    async def _maintain(self) -> bool:
        session = await Session.open(self._dsn, application_name("housekeeping"))
        try:
            return bool(await session.value("select pgreact.maintain_history()", timeout=TIMEOUT))
        finally:
            await session.close()
