"""The roll-up: counts settled attempts into ``pgreact.tally``, from which charts and counters are read.

Each settlement leaves a row in ``pgreact.settled``. ``pgreact.roll_up`` counts and deletes a batch of them in
one transaction, so a crash or another leader counts no attempt twice and loses none.
"""

import asyncio
import contextlib

from pgreact.clock import Clock
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles, retry

PAUSE = 10.0  # seconds from a change to the roll-up
BACKSTOP = (
    600.0  # seconds until a roll-up without a change: a job that was cancelled while waiting signals nothing
)
BATCH = 10_000  # rows: about 0.1 s
TIMEOUT = 30.0  # seconds


class RollUp:
    """Rolls up during one leader's term, soon after something was settled; an idle queue costs nothing."""

    def __init__(self, session: Session, clock: Clock, troubles: Troubles) -> None:
        """Prepare the roll-up.

        Args:
            session: Runs the statement.
            clock: Measures durations.
            troubles: Reports failures.
        """
        self._session = session
        self._clock = clock
        self._trouble = troubles["roll-up"]
        self._wake = asyncio.Event()
        self._wake.set()  # for what was settled while no daemon led

    def changed(self) -> None:
        """Jobs may have been settled: roll up soon."""
        self._wake.set()

    async def run(self) -> None:
        """Roll up until cancelled.

        Raises:
            SessionLost: The session is gone.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BACKSTOP):
                    await self._wake.wait()
                    await asyncio.sleep(PAUSE)
            self._wake.clear()
            while await retry(self._trouble, self._roll_up) == BATCH:
                pass

    async def _roll_up(self) -> int:
        """Count one batch; return its size."""
        counted = await self._session.value("select pgreact.roll_up($1)", BATCH, timeout=TIMEOUT)
        return int(counted or 0)
