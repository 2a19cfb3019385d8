"""The page of lanes: depths, limits and waits; pause, resume, limit."""

from collections.abc import Callable, Mapping
from typing import Any

from psycopg import sql
from starlette.datastructures import FormData

from pgreact.errors import ConfigError, nearest
from pgreact.postgres.change import Connection, rows
from pgreact.postgres.queries import query
from pgreact.quantities import parse_limit, parse_rate
from pgreact.queue.flow import Flow, flow
from pgreact.web.actions import field
from pgreact.web.page import Page, Query


def _lanes(connection: Connection, _query: Query) -> list[dict[str, Any]]:
    """Return the lanes with their settings."""
    found = rows(connection, query("queue_lanes"))
    settings = {row["name"]: row for row in rows(connection, query("queue_lane"))}
    for lane in found:
        own = settings.get(lane["name"], {})
        lane.update({key: own.get(key) for key in ("burst", "tasks")})
    return found


def _waits(connection: Connection, _query: Query) -> dict[str, Flow]:
    """Return how long the jobs of each lane waited and ran lately."""
    return flow(connection)


def _pause(connection: Connection, form: FormData) -> str:
    return f"paused {_set(connection, form, paused=True)}"


def _resume(connection: Connection, form: FormData) -> str:
    return f"resumed {_set(connection, form, paused=False)}"


def _limit(connection: Connection, form: FormData) -> str:
    limits: dict[str, Any] = {}
    for name, parse in _LIMITS.items():
        try:
            limits[name] = parse(field(form, name).strip() or "none")
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from None
    return f"changed the limits of {_set(connection, form, **limits)}"


def _whole(value: str) -> int:
    number = parse_limit(value)
    if number is None:
        raise ValueError("write a number from 1 on")
    return number


def _bundle(value: str) -> int | None:
    return None if value in {"auto", "none"} else _whole(value)


_LIMITS: Mapping[str, Callable[[str], object]] = {
    "max_in_progress": parse_limit,
    "max_unstarted": _whole,
    "weight": _whole,
    "rate": parse_rate,
    "burst": _whole,
    "bundle": _bundle,
}


def _set(connection: Connection, form: FormData, **columns: object) -> str:
    """Set columns of the lane that a form names.

    Returns:
        The lane's name, with a note if the file also sets the lane.

    Raises:
        ConfigError: There is no such lane.
    """
    name = field(form, "lane")
    pairs = [sql.SQL("{} = {}").format(sql.Identifier(column), value) for column, value in columns.items()]
    done = connection.execute(
        sql.SQL("update pgreact.lane set {} where name = {} returning origin").format(
            sql.SQL(", ").join(pairs), name
        )
    ).fetchall()
    if not done:
        known = [row["name"] for row in rows(connection, query("queue_lane"))]
        raise ConfigError(f'no lane "{name}"{nearest(name, known)}')
    undone = '; the next "pgreact apply" sets it back where pgreact.toml says otherwise'
    return name + (undone if done[0][0] == "config" else "")


LANES = Page(
    "lanes",
    "Lanes",
    {"lanes": _lanes, "waits": _waits},
    {"pause": _pause, "resume": _resume, "limit": _limit},
)
