"""The application that owns a database.

Two applications on one database would remove each other's routes and publish to one broker.
"""

from psycopg import sql

from pgreact.errors import ConfigError, PgreactError
from pgreact.postgres.change import Change, Connection
from pgreact.postgres.queries import query
from pgreact.postgres.session import Session


def statement(application: str) -> str:
    """Return the statement that makes an application the owner of a database."""
    return (
        sql.SQL(
            "insert into pgreact.installation (application) values ({})\n"
            "on conflict (one) do update set application = excluded.application;"
        )
        .format(application)
        .as_string()
    )


def script(application: str) -> str:
    """Return the statements that make an application the owner, and fail if another application is."""
    return sql.SQL(
        "do $$\nbegin\n"
        "    if exists (select from pgreact.installation where application <> {0}) then\n"
        "        raise exception 'this database belongs to another application than %', {0}\n"
        "            using hint = 'See pgreact.installation.';\n"
        "    end if;\nend\n$$;\n"
    ).format(application).as_string() + statement(application)


def changes(connection: Connection, application: str | None, *, take_over: bool, empty: bool) -> list[Change]:
    """Compare the owner of a database with the configuration.

    Args:
        connection: Any session on the database.
        application: The configured application, if any.
        take_over: Replace another owner.
        empty: pgreact's schema does not exist yet.

    Returns:
        The step that sets the owner, or none.

    Raises:
        PgreactError: Another application owns the database.
        ConfigError: ``take_over`` without an application.
    """
    if take_over and application is None:
        raise ConfigError("--take-over needs a name: set application (or app) in pgreact.toml")
    owner = None if empty else owner_of(connection)
    if not take_over:
        refuse(owner, application)
    if application is None or owner == application:
        return []
    what = f"application {application}" if owner is None else f"application {owner} → {application}"
    return [Change("+" if owner is None else "~", what, statement(application))]


def owner_of(connection: Connection) -> str | None:
    """Return the application that owns a database; ``None``: no application does."""
    found = connection.execute(query("installation").encode()).fetchall()
    return found[0][0] if found else None


def refuse(owner: str | None, application: str | None) -> None:
    """Refuse an application that is not the owner; one without a name is accepted.

    Raises:
        PgreactError: The two differ.
    """
    if owner is not None and application is not None and owner != application:
        raise PgreactError(
            f'this database belongs to the application "{owner}", and this is "{application}": give each a '
            f'database of its own; if they are one, set application = "{owner}" in pgreact.toml; if '
            f'"{application}" is to take its place, run "pgreact apply --take-over"'
        )


async def check(session: Session, application: str | None) -> None:
    """Refuse to run for an application that does not own the database.

    Args:
        session: Any asynchronous session on the database.
        application: The configured application; ``None``: no check.

    Raises:
        PgreactError: Another application owns the database.
        SessionLost: The session is gone.
        Exception: The server refused the query.
    """
    if application is not None:
        refuse(await session.value(query("installation")), application)
