"""Where another scheduler left off."""

import datetime
from typing import Any

from pgreact.timetable.columns import moment, recurrence
from pgreact.timetable.recurrence import RecurrenceError, next_after
from pgreact.timetable.uncarried import Uncarried

_JUST = datetime.timedelta(microseconds=1)


def went_on(
    row: dict[str, Any],
    since: datetime.datetime,
    *,
    last_run_at: datetime.datetime | None,
    run_count: int = 0,
) -> dict[str, Any] | Uncarried:
    """Let a schedule go on as if it had been ours at its last run.

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
    last = since.isoformat()
    more: dict[str, Any] = {"last_nominal_at": last, "run_count": run_count}
    if last_run_at is not None:
        more["last_run_at"] = last if last_run_at is since else last_run_at.isoformat()
    start_at = moment(row.get("start_at"))
    if "every" in row and "anchor" not in row and not (start_at and start_at > since):
        more["grid"] = last
    if row.get("enabled", True) and ("max_runs" not in row or run_count < row["max_runs"]):
        try:
            due = _due(row, since, start_at)
        except (OverflowError, RecurrenceError) as error:
            return Uncarried(row["name"], str(error))
        if due is not None:
            more["due"] = due.isoformat()
    return {**row, **more}


def _due(
    row: dict[str, Any], since: datetime.datetime, start_at: datetime.datetime | None
) -> datetime.datetime | None:
    on_own_grid = "every" in row and "anchor" not in row
    if start_at is not None and start_at > since:
        due = start_at if on_own_grid else _next(row, start_at - _JUST)
    elif on_own_grid:
        due = since + datetime.timedelta(seconds=row["every"])
    else:
        due = _next(row, since)
    end_at = moment(row.get("end_at"))
    return None if due is None or (end_at is not None and due > end_at) else due


def _next(row: dict[str, Any], since: datetime.datetime) -> datetime.datetime | None:
    if "cron" in row:
        # Celery's has five fields, and the answer is remembered
        since = since.replace(second=0, microsecond=0)
    return next_after(recurrence(row, since), since)
