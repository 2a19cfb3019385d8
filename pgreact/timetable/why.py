"""Why a schedule does not run, or when it will: from its row, the process that fires it, and its last job."""

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

from pgreact.errors import argument, quoted
from pgreact.postgres.change import Connection, rows
from pgreact.postgres.queries import query
from pgreact.quantities import format_duration
from pgreact.queue import why as job_why
from pgreact.queue.why import ago, until
from pgreact.timetable.occurrences import zone_of
from pgreact.timetable.views import named

_VERDICTS = {
    "disabled": "is disabled",
    "failed": "has failed",
    "ended": "has ended",
    "new": "is not planned yet",
    "held": "is held up",
    "due": "is due",
    "waits": "waits for its next occurrence",
}


def why(connection: Connection, name: str) -> dict[str, Any]:
    """Explain why a schedule does not run.

    Args:
        connection: Any session on the database.
        name: The schedule's name.

    Returns:
        ``schedule``: its name; ``verdict``: ``disabled``, ``failed``, ``ended``, ``new`` (not planned yet),
        ``held`` (something keeps it from firing), ``due`` or ``waits``; ``causes``, each with ``code``,
        ``text`` and ``known_at``; ``last_job``: the result of :func:`pgreact.queue.why.why` for the last job
        that it fired, if any.

    Raises:
        ConfigError: The name does not exist.
    """
    row = named(connection, [name])[name]
    [found] = rows(connection, query("schedule_why"), {"name": name})
    state = [*_state(row, found["now"])]
    held = [*_held(row, found)] if not state else []
    due = [*_due(row, found["now"])] if not state else []
    last_job = job_why.why(connection, row["last_job"]) if row["last_job"] is not None else None
    after = [*_overlap(row, found, last_job), *_unfired(row, found)]
    verdict = state[0]["code"] if state else "held" if held else due[0]["code"] if due else "new"
    return {
        "schedule": name,
        "verdict": verdict,
        "causes": [*state, *held, *due, *after],
        "last_job": last_job,
    }


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Return the answer for people, line by line.

    Args:
        found: The result of :func:`why`.
    """
    yield f"schedule {quoted(found['schedule'])} {_VERDICTS[found['verdict']]}:"
    yield from (f"  {cause['text']}" for cause in found["causes"])
    if found["last_job"]:
        yield from (f"  last fired: {line}" for line in job_why.lines(found["last_job"]))


def _cause(code: str, text: str, known_at: datetime.datetime | None = None) -> dict[str, Any]:
    return {"code": code, "text": text, "known_at": known_at}


def _state(row: dict[str, Any], now: datetime.datetime) -> Iterator[dict[str, Any]]:
    """Return why the schedule has no next run: it is disabled, failed or ended."""
    enable = f'"pgreact schedule enable {argument(row["name"])}"'
    if not row["enabled"]:
        yield _cause("disabled", f"it is disabled, and does not fire: {enable} plans it again")
    elif row["state"] == "failed":
        error = row["last_error"] or "no error was recorded"
        yield _cause("failed", f"it does not fire until an edit, or {enable}: {error}")
    elif row["state"] == "ended":
        if row["max_runs"] is not None and row["run_count"] >= row["max_runs"]:
            text = f"max_runs: it has run {row['run_count']} of {row['max_runs']} times"
        elif row["end_at"] is not None and row["end_at"] <= now:
            text = f"end_at was {_clock(row, row['end_at'])}"
        elif row["at"] is not None:
            text = f"its only occurrence was {_clock(row, row['at'])}"
        else:
            text = "its rule has no further occurrence" + (" before end_at" if row["end_at"] else "")
        yield _cause("ended", text)


def _held(row: dict[str, Any], found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Return what keeps the schedule from firing, though it is planned."""
    if not found["fires"]:
        start = '"pgreact listen" or "celery beat -S pgreact"'
        yield _cause("no_leader", f"no process fires schedules: start {start}")
    if trouble := found["trouble"]:
        yield _cause("leader_failing", f"{trouble['subject']} fails, and is tried again: {trouble['error']}")
    if not found["lane_known"]:
        yield _cause("no_lane", f"no lane {quoted(row['lane'])} exists: at its next run it fails")


def _due(row: dict[str, Any], now: datetime.datetime) -> Iterator[dict[str, Any]]:
    """Return when the schedule fires next."""
    at = row["next_run_at"]
    if row["state"] == "new" or at is None:
        yield _cause("new", "the process that fires schedules has yet to compute its next run")
        return
    if at > now:
        start = f", after start_at {_clock(row, row['start_at'])}" if _starts_later(row, now) else ""
        yield _cause("waits", f"next run at {_clock(row, at)}, in {until(at, now)}{start}", at)
    else:
        yield _cause("due", f"its run of {_clock(row, at)} is due for {ago(at, now)}")


def _starts_later(row: dict[str, Any], now: datetime.datetime) -> bool:
    return row["start_at"] is not None and row["start_at"] > now


def _overlap(
    row: dict[str, Any], found: Mapping[str, Any], last_job: Mapping[str, Any] | None
) -> Iterator[dict[str, Any]]:
    if not row["overlap"] and found["last_job_unsettled"] and last_job:
        text = f"overlap = false: occurrences are dropped until job {row['last_job']} ends"
        yield _cause("overlap", text)


def _unfired(row: dict[str, Any], found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Return why the last occurrence was not fired; known with ``retention``."""
    past = found["unfired"]
    if not past:
        if row["misfire_count"]:
            one = row["misfire_count"] == 1
            were = "occurrence so far was" if one else "occurrences so far were"
            yield _cause("misfires", f"{row['misfire_count']} {were} missed or skipped")
        return
    nominal, at = (datetime.datetime.fromisoformat(past[key]) for key in ("nominal_at", "fired_at"))
    which = f"the occurrence of {_clock(row, nominal)}"
    late = format_duration((at - nominal).total_seconds(), roughly=True)
    if past["outcome"] == "missed":
        grace = format_duration(row["grace"].total_seconds())
        text = f"{which} was missed: found {late} late, with misfire = {row['misfire']} and grace {grace}"
    elif past["outcome"] == "overlapped":
        text = f"{which} was dropped: the job of the one before had not ended"
    else:
        text = f"{which} failed: {past['error'] or 'no error was recorded'}"
    yield _cause(past["outcome"], text)


def _clock(row: dict[str, Any], moment: datetime.datetime) -> str:
    return f"{moment.astimezone(zone_of(row)):%Y-%m-%d %H:%M:%S} {row['timezone']}"
