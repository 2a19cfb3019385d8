"""Whether a daemon may work on a database: two applications in one would send to one broker."""

import asyncpg

from pgreact.database.installation import refuse
from pgreact.database.session import Session, refusal
from pgreact.shipped import query


async def check(session: Session, application: str | None) -> None:
    """Refuse to work for another application than the one that the database belongs to.

    Args:
        session: Any session of the daemon.
        application: Our name; ``None``: we have none, and are let in.

    Raises:
        PgreactError: It belongs to another, or cannot be asked.
        SessionLost: The session is gone.
    """
    if application is None:
        return
    try:
        owner = await session.value(query("installation"))
    except asyncpg.PostgresError as error:
        raise refusal(error, "cannot read pgreact.installation") from None
    refuse(owner, application)
