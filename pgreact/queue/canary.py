"""The canary: a job that the leader enqueues at intervals, which goes the whole way and yields one number.

``pgreact.send_canary`` decides and keeps the times; the settlement of the job notes its return in
``pgreact.canary``.
"""

import asyncio
import contextlib

from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles, retry

OFF = 300.0  # seconds between two looks while it is off: a notification tells of a change, unless it is lost
TIMEOUT = 30.0  # seconds


class Canary:
    """Sends canaries during one leader's term."""

    def __init__(self, session: Session, troubles: Troubles) -> None:
        """Prepare the canary.

        Args:
            session: Runs the statement.
            troubles: Reports failures.
        """
        self._session = session
        self._trouble = troubles["canary"]
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Read interval and queue again: one of them changed."""
        self._changed.set()

    async def run(self) -> None:
        """Send canaries until cancelled.

        Raises:
            SessionLost: The session is gone.
        """
        while True:
            self._changed.clear()
            wait = await retry(self._trouble, self._send)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    async def _send(self) -> float:
        """Send a canary if it is due; return the seconds until the next look."""
        wait = await self._session.value("select pgreact.send_canary()", timeout=TIMEOUT)
        return OFF if wait is None else float(wait)
