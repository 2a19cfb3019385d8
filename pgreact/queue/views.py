"""Reports on the queue for the command line: an overview of lanes, lists of jobs, one job in detail."""

import datetime
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row

from pgreact.dispatch.route import QUEUE_ROUTE
from pgreact.errors import ConfigError, PgreactError, nearest
from pgreact.postgres.change import conditions
from pgreact.postgres.queries import query
from pgreact.quantities import format_count, format_duration

Connection = psycopg.Connection[tuple[Any, ...]]

TRIGGER = (
    "table",
    "event",
    "condition",
    "changed",
    "always",
    "origin",
    "trigger",
)  # the columns of trigger_health that are shown
STALLED = 60.0  # seconds a job is ready in a full lane in which nothing runs, before status reports it
SENT = 3  # messages for one attempt that no worker started, before status reports it
STATES = ("ready", "delayed", "blocked", "in_progress", "dead")


def overview(connection: Connection, triggers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return lanes, totals and outbox, ready for JSON.

    Args:
        connection: Any session on the database.
        triggers: The rows of ``trigger_health``.

    Returns:
        ``lanes`` (depth by state; a number above ``counted_to`` means more; ``oldest_s``: seconds since the
        first ready job could run; jobs in progress, ``unstarted`` of them; ``retrying``: jobs waiting for a
        retry of their task's own; ``full``: jobs are ready and no place is free; ``rate``: claims a second
        over about the last minute; ``claimed``: claims in all),
        ``unanswered`` (jobs published and not started for longer than a lease, by lane and Celery queue),
        ``in_progress``, ``max_in_progress``, ``dead``, ``died_lately`` (of the dead, within 15 minutes),
        ``triggers`` that wake the dispatch, ``outbox``, and ``reasons``: what is wrong, one line each.
    """
    lanes = _rows(connection, "queue_lanes")
    nothing = {"max_in_progress": None, "dead": 0, "died_lately": 0, "keeps_dying": False}
    totals = (_rows(connection, "queue_totals") or [nothing])[0]
    own = [{key: row[key] for key in TRIGGER} for row in triggers if row["route"] == QUEUE_ROUTE]
    outbox = [
        {key: row[key] for key in (*TRIGGER, "task", "lane")} for row in _rows(connection, "queue_outbox")
    ]
    unanswered = _rows(connection, "queue_unanswered")
    reasons = [
        unanswered_reason(row) for row in unanswered if row["sent"] >= SENT and row["verdict"] != "busy"
    ]
    reasons += [f"queue: lane {lane['name']} is full: {_taken(lane)}" for lane in lanes if _stalled(lane)]
    return {
        "reasons": [*_reasons(totals, own, outbox), *reasons],
        "lanes": lanes,
        "unanswered": unanswered,
        "in_progress": sum(lane["in_progress"] for lane in lanes),
        "max_in_progress": totals["max_in_progress"],
        "dead": totals["dead"],
        "died_lately": totals["died_lately"],
        "triggers": own,
        "outbox": outbox,
    }


def _reasons(
    totals: dict[str, Any], own: Sequence[dict[str, Any]], outbox: Sequence[dict[str, Any]]
) -> Iterator[str]:
    if not own:
        yield "queue: the triggers that wake its dispatch are missing"
    yield from trigger_reasons("queue", own)
    yield from trigger_reasons("outbox", outbox)
    if totals["keeps_dying"]:
        yield (
            f"queue: jobs keep dying, {format_count(totals['died_lately'])} in the last 15 minutes: "
            "pgreact queue list --state dead"
        )


def trigger_reasons(subject: str, triggers: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Return a line for each trigger that is not in order."""
    for row in triggers:
        if row["trigger"] != "ok":
            yield f"{subject}: {row['event']} on {row['table']}: trigger {row['trigger']}: {remedy(row)}"


def overview_lines(found: dict[str, Any]) -> Iterator[str]:
    """Return the overview as lines of text."""
    depth = ", ".join(f"{total(found['lanes'], state)} {state}" for state in ("ready", "delayed", "blocked"))
    yield f"queue    {depth}; {_of(found)} in progress; {format_count(found['dead'])} dead"
    table = [("lane", "ready", "delayed", "blocked", "oldest", "in progress", "jobs/s", "")]
    for lane in found["lanes"]:
        oldest = "-" if lane["oldest_s"] is None else format_duration(lane["oldest_s"], roughly=True)
        if not lane["known"]:
            state = "deleted lane: no limits" if lane["name"] else "of tasks not yet routed"
        elif lane["paused"]:
            state = "PAUSED"
        elif lane["full"]:
            state = f"FULL: {_taken(lane)}"
        elif lane["retrying"]:
            state = f"{lane['retrying']} wait for a retry"
        else:
            state = ""
        ready, delayed, blocked = (
            format_count(lane[key], lane["counted_to"]) for key in ("ready", "delayed", "blocked")
        )
        name = str(lane["name"] or "(none yet)")
        table.append((name, ready, delayed, blocked, oldest, _of(lane), f"{lane['rate']:.2f}", state))
    yield from (f"  {line}" for line in aligned(table, right=range(1, 7)))
    for row in found["unanswered"]:
        if row["sent"] < SENT or row["verdict"] == "busy":
            yield f"  {row['jobs']} jobs {_sent_to(row)}, not started for longer than a lease"
    for row in found["triggers"] or [{"table": "pgreact.queue", "event": "insert", "trigger": "missing"}]:
        if row["trigger"] != "ok":
            yield f'  {row["event"]} on {row["table"]}: trigger {row["trigger"].upper()}: run "pgreact apply"'
    for row in found["outbox"]:
        when = conditions(row["condition"], row["always"], row["changed"])
        state = "ok" if row["trigger"] == "ok" else f"{row['trigger'].upper()}: {remedy(row)}"
        lane = f" in lane {row['lane']}" if row["lane"] is not None else ""
        yield f"  {row['event']} on {row['table']}{when} enqueues {row['task']}{lane}: trigger {state}"


def jobs(
    connection: Connection, lane: str | None, state: str | None, task: str | None, limit: int
) -> list[dict[str, Any]]:
    """Return jobs: those in progress, then waiting jobs, then dead ones, each ordered by id.

    Args:
        connection: Any session on the database.
        lane: Only jobs of this lane.
        state: Only jobs in this state, see ``STATES``.
        task: Only jobs of this task.
        limit: How many at most.
    """
    return _rows(
        connection, "queue_list", {"lane": lane, "state": state or "any", "task": task, "limit": limit}
    )


def job_lines(found: Sequence[dict[str, Any]], now: datetime.datetime) -> Iterator[str]:
    """Return a list of jobs as a table."""
    table = [("ID", "STATE", "LANE", "TASK", "ATTEMPT", "SINCE", "KEY", "")]
    for job in found:
        seconds = (now - job["since"]).total_seconds()
        age = format_duration(abs(seconds), roughly=True)
        table.append(
            (
                str(job["id"]),
                job["state"],
                job["lane"] or "-",
                _cut(job["task"], 255),
                f"{job['attempt']}/{job['max_attempts']}",
                f"in {age}" if job["state"] == "delayed" and seconds < 0 else age,
                _cut(job["key"]),
                _cut(job["error"] or (job["worker"] and f"on {job['worker']}")),
            )
        )
    return aligned(table, right=(0,))


def job(connection: Connection, number: int) -> dict[str, Any]:
    """Return all details of one job.

    Args:
        connection: Any session on the database.
        number: The job's id.

    Returns:
        ``job``: its row with its state, or ``None`` if only the history has it; ``blocked_by``:
        the job of the same key that comes first, if any; ``history``: its settled attempts.

    Raises:
        PgreactError: No table has a job of this id.
    """
    found = _rows(connection, "queue_show", {"job": number})[0]
    if found["job"] is None and not found["history"]:
        raise PgreactError(
            f"no job {number}: none waits, is in progress or dead under this id; settled jobs stay in the "
            "history only where [queue] sets retention"
        )
    if found["job"]:
        for name in ("args", "kwargs", "options"):
            found["job"][name] = _parsed(found["job"][name])
        found["job"]["backoff"] = format_duration(found["job"]["backoff"])
    return found


def details(found: dict[str, Any]) -> Iterator[str]:
    """Return one job as lines of text."""
    own = {"id": (found["job"] or found["history"][0])["id"], "state": "settled", **(found["job"] or {})}
    if found["blocked_by"] is not None:
        own["blocked_by"] = found["blocked_by"]
    yield from aligned([(key, _text(value)) for key, value in own.items() if value is not None])
    for attempt in found["history"]:
        yield ""
        yield f"attempt {attempt['attempt']}: {attempt['outcome']}"
        rest = {key: value for key, value in attempt.items() if key not in {"id", "attempt", "outcome"}}
        lines = aligned([(key, _text(value)) for key, value in rest.items() if value is not None])
        yield from (f"  {line}" for line in lines)


def check_lane(connection: Connection, lane: str | None) -> None:
    """Refuse a lane that neither exists nor has jobs.

    Raises:
        ConfigError: The lane is unknown; the message names the nearest one.
    """
    if lane is None:
        return
    known = [row["name"] for row in _rows(connection, "queue_lane")]
    if lane not in known and not _rows(connection, "queue_lane_used", {"lane": lane})[0]["used"]:
        raise ConfigError(f'no lane "{lane}"{nearest(lane, known)}')


def remedy(trigger: dict[str, Any]) -> str:
    """Return how to repair a trigger."""
    # apply does not touch triggers that were attached in SQL, except those of pgreact's own tables
    if trigger["origin"] == "config" or trigger["table"].startswith("pgreact."):
        return 'run "pgreact apply"'
    if trigger["trigger"] == "another table has its name":
        return "call pgreact.attach for that table, and pgreact.detach for this one"
    return "call pgreact.attach again"


def aligned(table: Sequence[Sequence[str]], right: Sequence[int] = ()) -> Iterator[str]:
    """Return rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def _parsed(text: str) -> Any:
    """Return the value of a JSON text, or the text if Python cannot read it or write it again."""
    try:
        value = json.loads(text)
        json.dumps({"job": {"args": value}}, indent=2)
    except (ValueError, RecursionError):
        return text
    return value


def _sent_to(row: dict[str, Any]) -> str:
    queue = f"Celery queue {row['queue']}" if row["queue"] else "a Celery queue"
    return f"sent to {queue}" + (f" by lane {row['lane']}" if row["lane"] != row["queue"] else "")


def unanswered_reason(row: dict[str, Any]) -> str:
    """Return what is wrong with the messages of a row of ``queue_unanswered``, and what to do."""
    if row["verdict"] == "passed over":
        why = (
            "later messages were started, so a worker of the queue takes these and cannot run them: "
            "does it call pgreact.setup, and know their tasks?"
        )
    else:
        why = "no worker seems to consume the queue: start one, or cancel the jobs"
    sent = f"{row['jobs']} jobs {_sent_to(row)} were sent up to {row['sent']} times and not started"
    return f"queue: {sent}; {why}"


def _taken(lane: dict[str, Any]) -> str:
    """Return what occupies the places of a full lane."""
    unstarted = str(lane["unstarted"])
    if lane["unstarted"] >= lane["unstarted_limit"]:
        unstarted += f" of {lane['unstarted_limit']}"
    parts = [f"{lane['in_progress'] - lane['unstarted']} running", f"{unstarted} published and not started"]
    if lane["retrying"]:
        parts.append(f"{lane['retrying']} wait for a retry")
    return ", ".join(parts)


def _stalled(lane: dict[str, Any]) -> bool:
    """Return whether a lane has been full for a while though none of its jobs runs."""
    nothing_runs = lane["in_progress"] == lane["unstarted"]
    return bool(lane["full"]) and nothing_runs and (lane["oldest_s"] or 0) > STALLED


def _of(found: dict[str, Any]) -> str:
    return f"{taken(found)}/{found['max_in_progress'] or '-'}"


def taken(found: dict[str, Any]) -> int:
    """Return what is in progress: places taken in a lane with a limit, else jobs."""
    of_lane = found["max_in_progress"] is not None and "places" in found
    count: int = found["places" if of_lane else "in_progress"]
    return count


def total(lanes: Sequence[dict[str, Any]], state: str) -> str:
    """Return the jobs of all lanes in a state; of a lane with more than were counted, those that were."""
    total = sum(min(lane[state], lane["counted_to"]) for lane in lanes)
    more = any(lane[state] > lane["counted_to"] for lane in lanes)
    return format_count(total + more, total)


def _cut(value: str | None, width: int = 60) -> str:
    line = re.sub(r"\s+", " ", value or "").strip()
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _rows(
    connection: Connection, name: str, parameters: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query(name).encode(), parameters).fetchall()
