"""The wait for a lock that makes its session the one that leads."""

from typing import Literal

from pgreact.postgres.session import REPLY_TIMEOUT, Session

Purpose = Literal["leader", "guard", "timetable"]

TIMEOUT = 5.0  # seconds a statement waits in the lock, and holds back vacuum, before it is asked anew
IDLE_LIMIT = 30.0  # seconds without a word after which the server ends the session of a frozen holder


async def acquire(session: Session, purpose: Purpose, timeout: float = TIMEOUT) -> bool:
    """Wait for a lock for a while; return whether this session holds it.

    Args:
        session: Keeps it until it ends.
        purpose: What the lock is for, as ``pgreact.lock_class`` knows it.
        timeout: Seconds.

    Raises:
        SessionLost: The session is gone.
        asyncpg.PostgresError: The schema is missing, or this role may not use it.
    """
    return bool(
        await session.value(
            "select pgreact.acquire_lock($1, make_interval(secs => $2))",
            purpose,
            timeout,
            timeout=timeout + REPLY_TIMEOUT,
        )
    )
