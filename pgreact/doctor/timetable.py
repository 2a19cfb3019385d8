"""The timetable: schedules that do not run, or not when they should."""

import shlex
from collections.abc import Iterator

from pgreact.doctor.checks import Finding, check, fail, warn
from pgreact.doctor.facts import Facts, statement
from pgreact.quantities import format_duration


@check("timetable.failed", "schedules that failed")
def failed(facts: Facts) -> Iterator[Finding]:
    for name, error, _ in _kind(facts, "failed"):
        yield fail(
            f"schedule {name} failed: {error}", f"pgreact schedule enable {shlex.quote(name)}   # once mended"
        )


@check("timetable.overdue", "schedules that are due for more than a minute")
def overdue(facts: Facts) -> Iterator[Finding]:
    for name, _, seconds in _kind(facts, "overdue"):
        yield fail(
            f"schedule {name} is overdue by {format_duration(seconds or 0, roughly=True)}",
            "pgreact doctor wakeup.leader wakeup.routes storage.xmin",
        )


@check("timetable.unplanned", "enabled schedules without a next run")
def unplanned(facts: Facts) -> Iterator[Finding]:
    for name, _, _ in _kind(facts, "unplanned"):
        yield warn(
            f"schedule {name} is enabled and has no next run: no daemon has planned it",
            "pgreact doctor wakeup.leader wakeup.routes",
        )


@check("timetable.missing_lane", "the lanes of schedules")
def missing_lane(facts: Facts) -> Iterator[Finding]:
    for name, lane, _ in _kind(facts, "no lane"):
        yield fail(
            f"schedule {name}: its lane {lane} does not exist, so it cannot enqueue",
            statement("insert into pgreact.lane (name) values ({});", lane),
        )


@check("timetable.misfires", "schedules that miss more occurrences than they run")
def misfires(facts: Facts) -> Iterator[Finding]:
    for name, counts, _ in _kind(facts, "misfiring"):
        yield warn(
            f"schedule {name} misses more occurrences than it runs: {counts}",
            statement("update pgreact.schedule set grace = 2 * grace where name = {};", name),
        )
    for name, counts, every in _kind(facts, "overlapping"):
        if every is None:
            interval = ""
            remedy = statement("update pgreact.schedule set overlap = true where name = {};", name)
            hint = "if two of its runs may run at a time; else let it recur less often"
        else:
            interval = f", {format_duration(every)}"
            remedy = statement("update pgreact.schedule set every = 2 * every where name = {};", name)
            hint = "or overlap = true, if two of its runs may run at a time"
        yield warn(
            f"schedule {name} drops more occurrences than it runs: {counts}; overlap is false, and its runs "
            f"last longer than its interval{interval}",
            f"{remedy}   # {hint}",
        )


def _kind(facts: Facts, kind: str) -> Iterator[tuple[str, str, float | None]]:
    for row in facts.rows("doctor_schedules"):
        if row["kind"] == kind:
            yield row["name"], row["detail"], row["seconds"]
