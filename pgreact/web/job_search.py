"""Search for jobs at a bounded cost: in a range of the newest rows, unless an index finds them.

A search reads ``RANGE`` rows of a table at most, by descending id, and says where it ended; the next one
continues there. Only what the index of a key or of a lane with few jobs finds is read to its end.
"""

import dataclasses
from typing import Any

import psycopg
from psycopg import sql

from pgreact.postgres.change import Connection, rows
from pgreact.postgres.queries import query
from pgreact.web.job_filter import Filter, InvalidFilter

RANGE = 20_000
PAGE = 50
_LAST = 2**63 - 1


@dataclasses.dataclass(frozen=True)
class Found:
    """Jobs of one range.

    Attributes:
        jobs: The rows, the newest first.
        before: The id before which the search continues; ``None``: it has read all.
        full: There may be more jobs in the same range; if not, ``before`` is its end.
    """

    jobs: list[dict[str, Any]]
    before: int | None
    full: bool


def search(
    connection: Connection, wanted: Filter, hidden: list[str], *, before: int | None = None, limit: int = PAGE
) -> Found:
    """Search one range.

    Args:
        connection: Any session on the database.
        wanted: The filter.
        hidden: The tasks, as patterns for ``like``, of whose errors no more than the class is read.
        before: Only lower ids.
        limit: How many jobs at most.

    Raises:
        InvalidFilter: PostgreSQL cannot read the jsonpath.
    """
    before = _LAST if before is None else before
    end = _end(connection, wanted, before)
    where, parameters = wanted.conditions()
    where = sql.SQL("{} and j.id < %(before)s and j.id > %(end)s").format(where)
    arguments = sql.SQL(", p.args, p.kwargs" if wanted.arguments else "")
    statement = sql.SQL(query("web_jobs")).format(arguments=arguments, where=where)
    try:
        found = rows(
            connection,
            statement.as_string(),
            {
                **parameters,
                "hidden": hidden,
                "before": before,
                "end": -1 if end is None else end,
                "limit": limit,
            },
        )
    except (psycopg.errors.SyntaxError, psycopg.errors.DataError) as error:
        if wanted.arguments is None:
            raise
        raise InvalidFilter({"args": f"PostgreSQL: {error.diag.message_primary}"}) from None
    if len(found) == limit:
        return Found(found, found[-1]["id"], full=True)
    return Found(found, None if end is None else end + 1, full=False)


def _end(connection: Connection, wanted: Filter, before: int) -> int | None:
    """Return the id above which the range lies; ``None``: the search reads to the end."""
    if wanted.id is not None:
        return None
    waiting = not {"ready", "delayed", "blocked"}.isdisjoint(wanted.states)
    by_key = wanted.key is not None
    [[end]] = connection.execute(
        query("web_job_range").encode(),
        {
            "lane": wanted.lane,
            "range": RANGE,
            "before": before,
            "queue": waiting and not by_key,
            "in_progress": "in_progress" in wanted.states and not by_key,
            "dead": "dead" in wanted.states,
        },
    ).fetchall()
    return None if end is None else int(end)
