"""Where another scheduler left off."""

import datetime
from typing import Any

from pgreact.timetable.columns import moment, schedule
from pgreact.timetable.importers.celery_schedules import rounded
from pgreact.timetable.importers.skipped import Uncarried
from pgreact.timetable.planner import following
from pgreact.timetable.recurrence import RecurrenceError

_JUST = datetime.timedelta(microseconds=1)
_BEGINNING = datetime.datetime(1, 1, 2, tzinfo=datetime.UTC)


def went_on(
    row: dict[str, Any],
    since: datetime.datetime,
    *,
    last_run_at: datetime.datetime | None,
    run_count: int = 0,
) -> dict[str, Any] | Uncarried:
    """Let a schedule go on as its source would from its last run.

    An interval keeps its grid. What fell due since then, until somebody looks at the row, was missed, and is
    treated as ``misfire`` says: fired once, as Beat does at its start, or skipped. Nothing is fired again
    that was, and nothing else at once.

    Args:
        row: As ``entries.row`` makes it, with all that bounds it.
        since: What is due after this has not been fired: the last run, or where counting begins without one.
        last_run_at: The last run; ``None``: there was none.
        run_count: How many there were.

    Returns:
        The row with what the source does not decide, but tells; or why it cannot be carried.
    """
    try:
        grid = _grid(row, since, ran=last_run_at is not None)
        # what lies before the grid was dealt with, too: the first step to it may be longer than the others
        dealt_with = since if grid is None else max(since, grid)
        known = row if grid is None else {**row, "grid": grid.isoformat()}
        due = following(schedule(known, since), _remembered(row, dealt_with))
    except (OverflowError, RecurrenceError) as error:
        return Uncarried(row["name"], str(error))
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


def never_ran(row: dict[str, Any], now: datetime.datetime) -> dict[str, Any] | Uncarried:
    """Let a schedule begin as RedBeat has it: what has not run yet is due at once, or when its rule begins.

    Args:
        row: As for ``went_on``.
        now: The moment of the import.
    """
    begun = went_on(row, now, last_run_at=None)
    if isinstance(begun, Uncarried) or "due" not in begun:
        return begun
    begins = following(schedule(row, now), _BEGINNING) if {"anchor", "start_at"} & row.keys() else now
    if begins is None or begins > now:
        return begun
    return {**begun, "last_nominal_at": (now - _JUST).isoformat(), "due": now.isoformat()}


def _grid(row: dict[str, Any], since: datetime.datetime, *, ran: bool) -> datetime.datetime | None:
    """Return where an interval begins that does not say so itself; ``None``: it does, or there is none."""
    if "relative" in row:
        return rounded(row, since)[0]
    if "every" not in row or "anchor" in row:
        return None
    start_at = moment(row.get("start_at"))
    ends = since + datetime.timedelta(seconds=row["every"])
    # it is due at its start, unless the interval since its last run ends later
    return since if start_at is None or start_at <= since or (ran and ends > start_at) else None


def _remembered(row: dict[str, Any], moment: datetime.datetime) -> datetime.datetime:
    """Return a moment with the same answer, which is remembered for others: Celery's cron has five fields."""
    return moment.replace(second=0, microsecond=0) if "cron" in row else moment
