"""The overview of the timetable for ``pgreact status``: counts, the next schedule, failures."""

import datetime
from collections.abc import Iterator
from typing import Any

from pgreact.postgres.change import Connection, rows
from pgreact.postgres.queries import query
from pgreact.quantities import format_count, format_duration


def overview(connection: Connection) -> dict[str, Any]:
    """Return the overview.

    Args:
        connection: Any session on the database.

    Returns:
        Counts, up to 10,001, of ``enabled``, ``disabled``, ``overdue`` (by more than a minute) and ``failed``
        (and enabled) schedules; ``next``: name and ``run_at`` of the one due next; ``failures``: name and
        ``error`` of the first failed ones; ``replanned``: ``count``, ``last_at`` and ``names`` of those
        planned anew in the last seven days because the clock had been far ahead, if any; ``reasons``: what is
        wrong.
    """
    [found] = rows(connection, query("timetable_overview"))
    if found["next"]:
        found["next"]["run_at"] = datetime.datetime.fromisoformat(found["next"]["run_at"])
    if found["replanned"]:
        found["replanned"]["last_at"] = datetime.datetime.fromisoformat(found["replanned"]["last_at"])
    return {"reasons": [*_reasons(found)], **found}


def _reasons(found: dict[str, Any]) -> Iterator[str]:
    if found["failed"]:
        yield f"timetable: schedules failed: {format_count(found['failed'])}"
    if found["overdue"]:
        late = found["next"]["name"]
        count = format_count(found["overdue"])
        yield f"timetable: schedules are overdue by more than a minute: {count}, first {late}"


def overview_lines(found: dict[str, Any], now: datetime.datetime) -> Iterator[str]:
    """Return the overview for people, line by line; nothing without schedules."""
    if not found["enabled"] + found["disabled"]:
        return
    yield ""
    disabled = f", {format_count(found['disabled'])} disabled" if found["disabled"] else ""
    schedules = "1 schedule" if found["enabled"] == 1 else f"{format_count(found['enabled'])} schedules"
    line = f"timetable  {schedules}{disabled}"
    if found["next"]:
        seconds = (found["next"]["run_at"] - now).total_seconds()
        when = f"{'in' if seconds > 0 else 'due for'} {format_duration(abs(seconds), roughly=True)}"
        line += f"; next: {found['next']['name']}, {when}"
    yield line
    for failure in found["failures"]:
        yield f"  FAILED: {failure['name']}: {failure['error']}"
    if found["failed"] > len(found["failures"]):
        yield f"  and {found['failed'] - len(found['failures'])} more: pgreact schedule list --failed"
    if again := found["replanned"]:
        names = ", ".join(again["names"])
        more = again["count"] - len(again["names"])
        ago = format_duration(max((now - again["last_at"]).total_seconds(), 0), roughly=True)
        yield (
            f"  planned anew {ago} ago, because the clock had been far ahead: {names}"
            f"{f' and {more} more' if more else ''}"
        )
