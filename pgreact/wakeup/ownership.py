"""Whether a daemon may work on a database: two applications in one would send to one broker."""

from pgreact.database.installation import refuse
from pgreact.database.session import Session
from pgreact.shipped import query


async def check(session: Session, application: str | None) -> None:
    """Refuse to work for another application than the one that the database belongs to.

    Args:
        session: Any session of the daemon.
        application: Our name; ``None``: we have none, and are let in.

    Raises:
        PgreactError: It belongs to another.
        SessionLost: The session is gone.
        Exception: The server refused to tell.
    """
    if application is None:
        return
    refuse(await session.value(query("installation")), application)
