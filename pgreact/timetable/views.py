"""Views of the timetable for people: a list of schedules, and one schedule in detail."""

import datetime
import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pgreact.errors import ConfigError, argument, nearest
from pgreact.postgres.change import Connection, rows
from pgreact.postgres.glob import like_pattern
from pgreact.postgres.queries import query
from pgreact.quantities import format_duration
from pgreact.queue.views import aligned
from pgreact.timetable.occurrences import next_occurrences, zone_of
from pgreact.timetable.plan import recurrence_text
from pgreact.timetable.recurrence import RecurrenceError

Which = Literal["enabled", "disabled", "overdue", "failed", "ended"]  # overdue: by more than a minute

NEXT = 10  # next occurrences shown
PAST = 20  # rows of the history shown


def schedules(
    connection: Connection,
    pattern: str | None,
    limit: int,
    *,
    which: Which | None = None,
    after: str | None = None,
) -> list[dict[str, Any]]:
    """Return schedules by name.

    Args:
        connection: Any session on the database.
        pattern: Of their names, in either case; ``*`` is any text, ``?`` one character.
        limit: How many at most.
        which: Only schedules of this kind; ``failed`` ones may be disabled, too.
        after: Only names later than this one.
    """
    return rows(
        connection,
        query("schedule_list"),
        {
            "pattern": None if pattern is None else like_pattern(pattern),
            "which": which,
            "after": after,
            "limit": limit,
        },
    )


def lines(found: Sequence[dict[str, Any]], now: datetime.datetime) -> Iterator[str]:
    """Return a table of schedules, line by line."""
    table = [("NAME", "RECURS", "NEXT RUN HERE", "IN ITS TIME ZONE", "LAST RUN", "RUNS", "STATE")]
    for row in found:
        due = row["next_run_at"] if row["enabled"] else None
        last = row["last_run_at"]
        table.append(
            (
                row["name"] if row["name"].isprintable() else json.dumps(row["name"]),
                recurrence_text(row),
                _clock(due.astimezone()) if due else "-",
                f"{due.astimezone(zone_of(row)):%Y-%m-%d %H:%M:%S} {row['timezone']}" if due else "-",
                f"{format_duration((now - last).total_seconds(), roughly=True)} ago" if last else "-",
                str(row["run_count"]),
                _state(row),
            )
        )
    return aligned(table, right=(5,))


def schedule(connection: Connection, name: str) -> dict[str, Any]:
    """Return all there is about one schedule.

    Args:
        connection: Any session on the database.
        name: Its name.

    Returns:
        ``schedule``: its row; ``occurrences``: the next ones, as ``next_occurrences`` returns them;
        ``error``: why there are none, since it has failed or they cannot be computed; ``history``: the last
        rows, the newest first, if they are kept.

    Raises:
        ConfigError: The name does not exist.
    """
    row = named(connection, [name])[name]
    [[now]] = connection.execute("select pgreact.clock_now()").fetchall()
    found: dict[str, Any] = {"schedule": row, "occurrences": [], "error": None}
    if row["state"] == "failed":
        found["error"] = row["last_error"] or "no error was recorded"
    try:
        found["occurrences"] = next_occurrences(row, now, NEXT)
    except RecurrenceError as error:
        found["error"] = str(error)
    return {**found, "history": rows(connection, query("schedule_history"), {"name": name, "limit": PAST})}


def named(connection: Connection, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return schedules by name.

    Raises:
        ConfigError: A name does not exist; the message suggests similar ones.
    """
    found = {row["name"]: row for row in rows(connection, query("schedule_named"), {"names": [*names]})}
    unknown = [name for name in dict.fromkeys(names) if name not in found]
    if unknown:
        known = {
            name: [row["name"] for row in rows(connection, query("schedule_names"), {"name": name})]
            for name in unknown
        }
        raise ConfigError("\n".join(f'no schedule "{name}"{nearest(name, known[name])}' for name in unknown))
    return found


def details(found: dict[str, Any]) -> Iterator[str]:
    """Return one schedule in detail, line by line."""
    row = found["schedule"]
    yield from aligned([(key, _text(value)) for key, value in row.items() if value not in (None, "")])
    yield ""
    if row["state"] == "failed":
        yield f"FAILED: {found['error']}"
        yield f'  it does not fire until an edit, or "pgreact schedule enable {argument(row["name"])}"'
    elif found["error"]:
        yield f"next occurrences unknown: {found['error']}"
    elif not found["occurrences"]:
        yield "no further occurrence"
    else:
        yield f"next occurrences{'' if row['enabled'] else ', once it is enabled'}:"
        table = [(f"in {row['timezone']}", "run here", "")]
        for each in found["occurrences"]:
            change = f"clocks change: {each['clocks_change']}" if each["clocks_change"] else ""
            table.append((_clock(each["nominal_at"]), _clock(each["run_at"].astimezone()), change))
        yield from (f"  {line}" for line in aligned(table))
    if found["history"]:
        yield ""
        yield "history:"
        kept = [("OCCURRENCE", "OUTCOME", "LATE", "JOB OR TASK", "")]
        for past in found["history"]:
            late = format_duration(round((past["fired_at"] - past["nominal_at"]).total_seconds(), 3))
            what = str(past["job"] or past["task_id"] or "")
            nominal = _clock(past["nominal_at"].astimezone())
            kept.append((nominal, past["outcome"], late, what, past["error"] or ""))
        yield from (f"  {line}" for line in aligned(kept))


def public(value: object) -> str:
    """Return a value that JSON cannot hold as text; durations as in the configuration."""
    if isinstance(value, datetime.timedelta):
        return format_duration(value.total_seconds())
    return value.isoformat() if isinstance(value, datetime.datetime) else str(value)


def _state(row: dict[str, Any]) -> str:
    if not row["enabled"]:
        return "disabled"
    return f"FAILED: {row['last_error']}" if row["state"] == "failed" else str(row["state"])


def _clock(moment: datetime.datetime) -> str:
    return moment.replace(microsecond=0).isoformat(" ")


def _text(value: Any) -> str:
    if isinstance(value, datetime.datetime):
        return _clock(value.astimezone())
    if isinstance(value, datetime.timedelta):
        return public(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
