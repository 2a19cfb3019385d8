"""Numbers of the lanes: throughput, waits and runs in the last hour, and the parts of the way in a week."""

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from pgreact.histogram import quantile
from pgreact.postgres.change import Connection, rows
from pgreact.postgres.queries import query

MINUTES = 60
PAST_FRESH = 300.0  # seconds that the numbers of the past week are shown again

_past: dict[str, tuple[float, list[dict[str, Any]]]] = {}  # by DSN: when they were read, and the rows


class LaneHour(NamedTuple):
    """The last hour of a lane, in minutes from old to new."""

    name: str
    jobs: list[int]
    done: list[int]
    wait_p95: list[float | None]  # seconds by minute
    run_p95: list[float | None]
    waits: tuple[float | None, float | None]  # seconds of the whole hour: p50 and p95
    runs: tuple[float | None, float | None]

    @property
    def total(self) -> int:
        """Attempts settled in the hour."""
        return sum(self.jobs)


def last_hour(connection: Connection, most: int) -> tuple[list[LaneHour], int]:
    """Return the lanes that settled attempts in the last hour, the busiest first.

    Args:
        connection: Any session on the database.
        most: How many lanes at most.

    Returns:
        The lanes, and the number of the others.
    """
    [(bounds,)] = connection.execute("select pgreact.buckets()").fetchall()
    lanes: dict[str, dict[int, dict[str, Any]]] = {}
    further = 0
    for row in rows(connection, query("web_minutes"), {"most": most}):
        lanes.setdefault(row["lane"], {})[MINUTES - 1 - row["ago"]] = row
        further = row["further"]
    found = [_hour(name, minutes, bounds) for name, minutes in lanes.items()]
    return sorted(found, key=lambda lane: (-lane.total, lane.name)), further


def past_parts(connection: Connection) -> list[dict[str, Any]]:
    """Return the sums of the parts of the attempts' way in each lane's past week.

    They are read anew every five minutes, since a week changes slowly and has many rows.

    Args:
        connection: Any session on the database.
    """
    now, key = time.monotonic(), connection.info.dsn
    at, found = _past.get(key, (-math.inf, []))
    if now - at > PAST_FRESH:
        found = rows(connection, query("web_parts_past"))
        _past[key] = now, found
    return found


def totals(connection: Connection) -> tuple[list[int], list[int]]:
    """Return the attempts of all lanes, and those that succeeded, by minute of the last hour.

    Args:
        connection: Any session on the database.
    """
    jobs, done = [0] * MINUTES, [0] * MINUTES
    for row in rows(connection, query("web_totals")):
        jobs[MINUTES - 1 - row["ago"]], done[MINUTES - 1 - row["ago"]] = row["jobs"], row["done"]
    return jobs, done


def _hour(name: str, minutes: dict[int, dict[str, Any]], bounds: Sequence[float]) -> LaneHour:
    nothing = {"jobs": 0, "done": 0, "waits": [], "runs": []}
    each = [minutes.get(minute, nothing) for minute in range(MINUTES)]

    def p95(column: str) -> list[float | None]:
        return [quantile(row[column], bounds, 0.95) for row in each]

    def whole(column: str) -> tuple[float | None, float | None]:
        counts = [sum(column) for column in zip(*(row[column] for row in minutes.values()), strict=True)]
        return quantile(counts, bounds, 0.5), quantile(counts, bounds, 0.95)

    return LaneHour(
        name,
        [row["jobs"] for row in each],
        [row["done"] for row in each],
        p95("waits"),
        p95("runs"),
        whole("waits"),
        whole("runs"),
    )
