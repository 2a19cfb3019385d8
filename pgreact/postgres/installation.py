"""The application a database belongs to: two would remove each other's routes, and send to one broker."""

from psycopg import sql

from pgreact.errors import ConfigError, PgreactError
from pgreact.postgres.change import Change, Connection
from pgreact.postgres.queries import query
from pgreact.postgres.session import Session


def statement(application: str) -> str:
    """Return the statement that gives a database to an application."""
    return (
        sql.SQL(
            "insert into pgreact.installation (application) values ({})\n"
            "on conflict (one) do update set application = excluded.application;"
        )
        .format(application)
        .as_string()
    )


def script(application: str) -> str:
    """Return the statements that give a database to an application, unless it is another's."""
    return sql.SQL(
        "do $$\nbegin\n"
        "    if exists (select from pgreact.installation where application <> {0}) then\n"
        "        raise exception 'this database belongs to another application than %', {0}\n"
        "            using hint = 'See pgreact.installation.';\n"
        "    end if;\nend\n$$;\n"
    ).format(application).as_string() + statement(application)


def changes(connection: Connection, application: str | None, *, take_over: bool, empty: bool) -> list[Change]:
    """Compare whom a database belongs to with the configuration.

    Args:
        connection: Any session on it.
        application: Our name, if we have one.
        take_over: Another's database becomes ours.
        empty: pgreact's schema is yet to be made.

    Raises:
        PgreactError: It belongs to another application.
        ConfigError: There is no name that could take it over.
    """
    if take_over and application is None:
        raise ConfigError("--take-over needs to know who we are: set application (or app) in pgreact.toml")
    owner = None if empty else owner_of(connection)
    if not take_over:
        refuse(owner, application)
    if application is None or owner == application:
        return []
    what = f"application {application}" if owner is None else f"application {owner} → {application}"
    return [Change("+" if owner is None else "~", what, statement(application))]


def owner_of(connection: Connection) -> str | None:
    """Return the application that a database belongs to, ``None`` if none has said its name."""
    found = connection.execute(query("installation").encode()).fetchall()
    return found[0][0] if found else None


def refuse(owner: str | None, application: str | None) -> None:
    """Refuse another application than the owner; who has no name is let in.

    Raises:
        PgreactError: It is another.
    """
    if owner is not None and application is not None and owner != application:
        raise PgreactError(
            f'this database belongs to the application "{owner}", and this is "{application}": give each a '
            f'database of its own; if they are one, set application = "{owner}" in pgreact.toml; if '
            f'"{application}" is to take its place, run "pgreact apply --take-over"'
        )


async def check(session: Session, application: str | None) -> None:
    """Refuse to work for another application than the one that the database belongs to.

    Args:
        session: Any asynchronous session on the database.
        application: Our name; ``None``: no check.

    Raises:
        PgreactError: The database belongs to another application.
        SessionLost: The session is gone.
        Exception: The server refused to tell.
    """
    if application is not None:
        refuse(await session.value(query("installation")), application)
