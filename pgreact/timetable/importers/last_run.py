"""Resume schedules from the last run of another scheduler."""

import datetime
from typing import Any

from pgreact.timetable.importers.celery_schedules import rounded
from pgreact.timetable.importers.skipped import Skipped
from pgreact.timetable.planner import following
from pgreact.timetable.recurrence import RecurrenceError
from pgreact.timetable.schedule_row import from_columns, parse_moment

_JUST = datetime.timedelta(microseconds=1)
_BEGINNING = datetime.datetime(1, 1, 2, tzinfo=datetime.UTC)


def resume_from(
    row: dict[str, Any],
    since: datetime.datetime,
    *,
    last_run_at: datetime.datetime | None,
    run_count: int = 0,
) -> dict[str, Any] | Skipped:
    """Resume a schedule as its source would from its last run.

    An interval keeps its grid. What fell due since then is a misfire, for ``misfire`` to decide: fired once,
    as Beat does when it starts, or skipped. What was fired is not fired again.

    Args:
        row: As ``entries.row`` returns it, complete.
        since: Occurrences after this were not fired: the last run, or where counting begins without one.
        last_run_at: The last run; ``None``: none.
        run_count: The number of runs.

    Returns:
        The row with the columns that record its runs and plan; or why it is skipped.
    """
    try:
        grid = _grid(row, since, ran=last_run_at is not None)
        # what lies before the grid is done, too: the first step may be longer than the others
        dealt_with = since if grid is None else max(since, grid)
        known = row if grid is None else {**row, "grid": grid.isoformat()}
        due = following(from_columns(known, since), _cacheable(row, dealt_with))
    except (OverflowError, RecurrenceError) as error:
        return Skipped(row["name"], str(error))
    more: dict[str, Any] = {"last_nominal_at": dealt_with.isoformat(), "run_count": run_count}
    if last_run_at is not None:
        more["last_run_at"] = last_run_at.isoformat()
    if (
        due is not None
        and row.get("enabled", True)
        and ("max_runs" not in row or run_count < row["max_runs"])
    ):
        more["due"] = due.isoformat()
    return {**known, **more}


def begin_without_run(row: dict[str, Any], now: datetime.datetime) -> dict[str, Any] | Skipped:
    """Begin a schedule that never ran as RedBeat does: due at once, or when its rule begins.

    Args:
        row: As for ``resume_from``.
        now: The moment of the import.

    Returns:
        As ``resume_from``.
    """
    begun = resume_from(row, now, last_run_at=None)
    if isinstance(begun, Skipped) or "due" not in begun:
        return begun
    begins = following(from_columns(row, now), _BEGINNING) if {"anchor", "start_at"} & row.keys() else now
    if begins is None or begins > now:
        return begun
    return {**begun, "last_nominal_at": (now - _JUST).isoformat(), "due": now.isoformat()}


def _grid(row: dict[str, Any], since: datetime.datetime, *, ran: bool) -> datetime.datetime | None:
    """Return where the grid of an interval begins; ``None``: it has an anchor, or is no interval."""
    if "relative" in row:
        return rounded(row, since)[0]
    if "every" not in row or "anchor" in row:
        return None
    start_at = parse_moment(row.get("start_at"))
    ends = since + datetime.timedelta(seconds=row["every"])
    # the first occurrence is its start, unless the interval since its last run ends later
    return since if start_at is None or start_at <= since or (ran and ends > start_at) else None


def _cacheable(row: dict[str, Any], moment: datetime.datetime) -> datetime.datetime:
    """Return the whole minute: with Celery's five fields the answer is the same, and cached more often."""
    return moment.replace(second=0, microsecond=0) if "cron" in row else moment
