"""A row of ``pgreact.schedule``, as ``timetable_due`` reads it."""

from typing import TYPE_CHECKING, Any

from pgreact.timetable.planner import Schedule
from pgreact.timetable.recurrence import Recurrence

if TYPE_CHECKING:  # the command line reads rows without it
    from collections.abc import Mapping

    import asyncpg


def schedule(row: "asyncpg.Record | Mapping[str, Any]") -> Schedule:
    """Return what the planner needs of a row."""
    return Schedule(
        id=row["id"],
        name=row["name"],
        turn=row["turn"],
        state=row["state"],
        recurrence=Recurrence(
            every_us=row["every_us"],
            cron=row["cron"],
            cron_and=row["cron_and"],
            at=row["at"],
            solar=row["solar"],
            rrule=row["rrule"],
            timezone=row["timezone"],
            anchor=row["anchor"],
        ),
        start_at=row["start_at"],
        end_at=row["end_at"],
        max_runs=row["max_runs"],
        run_count=row["run_count"],
        jitter=row["jitter"],
        misfire=row["misfire"],
        grace=row["grace"],
        catch_up=row["catch_up"],
        next_nominal_at=row["next_nominal_at"],
        next_run_at=row["next_run_at"],
        last_nominal_at=row["last_nominal_at"],
    )
