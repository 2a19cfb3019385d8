"""Advisory locks: acquisition of the lock that makes a session leader, guard or timetable."""

from typing import Literal

from pgreact.postgres.session import REPLY_TIMEOUT, Session

Purpose = Literal["leader", "guard", "timetable"]

TIMEOUT = 5.0  # seconds that one statement waits for the lock; its snapshot holds back vacuum as long
IDLE_LIMIT = 30.0  # seconds without a statement after which the server ends the session of a frozen holder


async def acquire(session: Session, purpose: Purpose, timeout: float = TIMEOUT) -> bool:
    """Wait for an advisory lock; return whether the session holds it.

    Args:
        session: Holds the lock until it ends.
        purpose: Names the lock, see ``pgreact.lock_class``.
        timeout: Seconds to wait.

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
