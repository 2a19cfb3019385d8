"""A page: its parts, each read on its own, and its actions."""

import dataclasses
import datetime
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import psycopg
from psycopg import sql
from starlette.datastructures import FormData, QueryParams

from pgreact.errors import PgreactError
from pgreact.postgres.change import Connection
from pgreact.postgres.connect import error_line
from pgreact.settings import Settings
from pgreact.web.database import STATEMENT_TIMEOUT, Database
from pgreact.web.user import User


class Part(NamedTuple):
    """A part of a page: its value, or why there is none."""

    value: Any
    error: str | None = None
    late: bool = False  # it took too long
    remedy: str | None = None  # for the error


class Query(NamedTuple):
    """A request for a page."""

    params: QueryParams
    path: Mapping[str, Any]  # the parameters of the page's path
    user: User
    settings: Settings
    now: datetime.datetime
    found: Mapping[str, Part] = MappingProxyType({})  # the parts that were read before this one


Read = Callable[[Connection, Query], Any]
Work = Callable[[Query], Any]
Act = Callable[[Connection, FormData], str]  # returns what was done, a line for the user


@dataclasses.dataclass(frozen=True)
class Page:
    """A page.

    Args:
        name: Its template is ``NAME.html``.
        title: Its heading.
        parts: What the template shows, by the name that it has there. Each is read in a savepoint of one
            read-only transaction, and may take 2 s; the template gets a :class:`Part`.
        actions: What operators do there, by the last segment of the URL that a form posts to. Each runs in a
            transaction of its own. One that no trigger records calls :func:`pgreact.postgres.event_log.log`.
        path: Its path, with parameters as Starlette writes them; by default ``/NAME``.
        listed: Whether the navigation has it.
        live: Whether it follows the database; otherwise it stays as it was loaded.
        work: Parts that need no session of the pages, and may take longer.
    """

    name: str
    title: str
    parts: Mapping[str, Read]
    actions: Mapping[str, Act] = dataclasses.field(default_factory=dict)
    path: str = ""
    listed: bool = True
    live: bool = True
    work: Mapping[str, Work] = dataclasses.field(default_factory=dict)

    @property
    def route(self) -> str:
        """The path."""
        return self.path or f"/{self.name}"


def read(page: Page, database: Database, query: Query) -> dict[str, Part]:
    """Read the parts of a page.

    Args:
        page: The page.
        database: The sessions.
        query: The request.

    Raises:
        Unreachable: The database is away.
        PgreactError: Of a part that refuses the request.
    """
    found = {name: _worked(work, query) for name, work in page.work.items()}
    query = query._replace(found=found)
    if not page.parts:
        return found
    with database.reading() as connection:
        for name, part in page.parts.items():
            try:
                with connection.transaction():
                    found[name] = Part(part(connection, query))
            except psycopg.errors.QueryCanceled:
                found[name] = Part(None, f"took longer than {STATEMENT_TIMEOUT} s", late=True)
            except psycopg.Error as error:
                if connection.broken:
                    raise
                denied = isinstance(error, psycopg.errors.InsufficientPrivilege)
                remedy = _grant(connection.info.user) if denied else None
                found[name] = Part(None, error_line(error, database.where), remedy=remedy)
    return found


def _grant(role: str) -> str:
    """Return the statement that gives a role the rights of the pages."""
    name = role if re.fullmatch("[a-z_][a-z0-9_]*", role) else sql.Identifier(role).as_string()
    return f"select pgreact.grant_role({sql.Literal(name).as_string()}, 'monitor')"


def _worked(work: Work, query: Query) -> Part:
    try:
        return Part(work(query))
    except PgreactError as error:
        return Part(None, str(error))
