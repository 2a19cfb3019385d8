"""The queue's housekeeping: history is partitioned and pruned, dead jobs are pruned. In a session of its own.

DDL takes locks that a reader of the history, such as ``pg_dump``, may hold for hours. Nothing waits for it
here.
"""

import asyncio

from pgreact.clock import Clock
from pgreact.postgres.application_name import application_name
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles

PAUSE = 3600.0  # seconds between two rounds
SOON = 60.0  # seconds until the next try, where a lock could not be had or there is more to delete
TIMEOUT = 60.0


class Housekeeping:
    """Keeps house for one leader's term."""

    def __init__(self, dsn: str, clock: Clock, troubles: Troubles) -> None:
        """Nothing is connected yet."""
        self._dsn = dsn
        self._trouble = troubles["housekeeping"]
        self._clock = clock

    async def run(self) -> None:
        """Keep house for ever. A session that is lost here costs the round alone."""
        while True:
            try:
                done = await self._round()
            except Exception as error:  # noqa: BLE001 - it can wait, whatever it is
                await asyncio.sleep(max(SOON, self._trouble.failed(error)))
            else:
                self._trouble.over()
                await asyncio.sleep(PAUSE if done else SOON)

    async def _round(self) -> bool:
        session = await Session.open(self._dsn, application_name("housekeeping"))
        try:
            return bool(await session.value("select pgreact.maintain_history()", timeout=TIMEOUT))
        finally:
            await session.close()
