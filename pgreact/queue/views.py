"""What is in the queue, for people: lanes at a glance, lists of jobs, one job wherever it is."""

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
from pgreact.quantities import short

Connection = psycopg.Connection[tuple[Any, ...]]

TRIGGER = (
    "table",
    "event",
    "condition",
    "changed",
    "always",
    "origin",
    "trigger",
)  # what is shown of a watched change
STANDING = 60.0  # seconds a job is ready in a lane that stands, before somebody is to be told
SENT = 3  # messages for one attempt, after which somebody is to be told
STATES = ("ready", "delayed", "blocked", "in_progress", "dead")


def overview(connection: Connection, triggers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return lanes, totals and outbox, ready for JSON.

    Args:
        connection: Any session on the database.
        triggers: The rows of ``trigger_health``.

    Returns:
        ``lanes`` (depth by state, ``oldest_s`` of the longest ready one, in progress, ``unstarted`` of these,
        ``retrying``: those that wait for a retry their task asked for, ``full``: more is ready than has a
        place, ``rate`` of claims a second over about the last minute), ``unanswered`` (what was published and
        not started for longer than a lease, by lane and Celery queue), ``in_progress``,
        ``max_in_progress``, ``dead``, of them ``died_lately`` (within 15 minutes), ``triggers`` that wake the
        dispatch, ``outbox``, and ``reasons``: what is wrong, such as a message that was sent three times and
        nobody starts.
    """
    lanes = _rows(connection, "queue_lanes")
    nothing = {"max_in_progress": None, "dead": 0, "died_lately": 0, "keeps_dying": False}
    totals = (_rows(connection, "queue_totals") or [nothing])[0]
    own = [{key: row[key] for key in TRIGGER} for row in triggers if row["route"] == QUEUE_ROUTE]
    outbox = [
        {key: row[key] for key in (*TRIGGER, "task", "lane")} for row in _rows(connection, "queue_outbox")
    ]
    unanswered = _rows(connection, "queue_unanswered")
    reasons = [_unanswered(row) for row in unanswered if row["sent"] >= SENT and row["verdict"] != "busy"]
    reasons += [f"queue: lane {lane['name']} is full: {_taken(lane)}" for lane in lanes if _stands(lane)]
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
            f"queue: jobs keep dying, {totals['died_lately']} in the last 15 minutes: "
            "pgreact queue list --state dead"
        )


def trigger_reasons(subject: str, triggers: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Return what is wrong with triggers, as one line each."""
    for row in triggers:
        if row["trigger"] != "ok":
            yield f"{subject}: {row['event']} on {row['table']}: trigger {row['trigger']}: {remedy(row)}"


def overview_lines(found: dict[str, Any]) -> Iterator[str]:
    """Return the same for people."""
    depth = ", ".join(
        f"{sum(lane[state] for lane in found['lanes'])} {state}" for state in ("ready", "delayed", "blocked")
    )
    yield f"queue    {depth}; {_of(found)} in progress; {found['dead']} dead"
    table = [("lane", "ready", "delayed", "blocked", "oldest", "in progress", "jobs/s", "")]
    for lane in found["lanes"]:
        oldest = "-" if lane["oldest_s"] is None else short(lane["oldest_s"], roughly=True)
        if not lane["known"]:
            state = "no such lane any more: no limits" if lane["name"] else "of tasks yet to be routed"
        elif lane["paused"]:
            state = "PAUSED"
        elif lane["full"]:
            state = f"FULL: {_taken(lane)}"
        elif lane["retrying"]:
            state = f"{lane['retrying']} wait for their own retries"
        else:
            state = ""
        ready, delayed, blocked = (str(lane[key]) for key in ("ready", "delayed", "blocked"))
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
    """Return jobs, those in progress first, then those that wait, then the dead, each by id.

    Args:
        connection: Any session on the database.
        lane: Only of this one.
        state: Only in this one, see ``STATES``.
        task: Only of this name.
        limit: So many at most.
    """
    return _rows(
        connection, "queue_list", {"lane": lane, "state": state or "any", "task": task, "limit": limit}
    )


def job_lines(found: Sequence[dict[str, Any]], now: datetime.datetime) -> Iterator[str]:
    """Return a list of jobs as a table."""
    table = [("ID", "STATE", "LANE", "TASK", "ATTEMPT", "SINCE", "KEY", "")]
    for job in found:
        seconds = (now - job["since"]).total_seconds()
        age = short(abs(seconds), roughly=True)
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
    """Return all there is about one job.

    Args:
        connection: Any session on the database.
        number: Its id.

    Returns:
        ``job``: its row with its state, or ``None`` if only the history has it; ``blocked_by``:
        the job of the same key that comes first, if any; ``history``: its settled attempts.

    Raises:
        PgreactError: There is no trace of it.
    """
    found = _rows(connection, "queue_show", {"job": number})[0]
    if found["job"] is None and not found["history"]:
        raise PgreactError(
            f"no job {number}: none waits, is in progress or dead under this id; one that is done leaves a "
            "trace only where [queue] sets retention"
        )
    if found["job"]:
        for name in ("args", "kwargs", "options"):
            found["job"][name] = _parsed(found["job"][name])
        found["job"]["backoff"] = short(found["job"]["backoff"])
    return found


def details(found: dict[str, Any]) -> Iterator[str]:
    """Return one job for people."""
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
        ConfigError: It names the nearest.
    """
    if lane is None:
        return
    known = [row["name"] for row in _rows(connection, "queue_lane")]
    if lane not in known and not _rows(connection, "queue_lane_used", {"lane": lane})[0]["used"]:
        raise ConfigError(f'no lane "{lane}"{nearest(lane, known)}')


def remedy(trigger: dict[str, Any]) -> str:
    """Return what to do about a trigger that does not stand."""
    # apply leaves alone what was attached in SQL, but for what is built in
    if trigger["origin"] == "config" or trigger["table"].startswith("pgreact."):
        return 'run "pgreact apply"'
    if trigger["trigger"] == "another table has its name":
        return "call pgreact.attach with that one, and pgreact.detach with this"
    return "call pgreact.attach again"


def aligned(table: Sequence[Sequence[str]], right: Sequence[int] = ()) -> Iterator[str]:
    """Return rows as lines whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def _parsed(text: str) -> Any:
    """Return the value of a JSON text; the text, where Python cannot read it or write it again."""
    try:
        value = json.loads(text)
        json.dumps({"job": {"args": value}}, indent=2)
    except (ValueError, RecursionError):
        return text
    return value


def _sent_to(row: dict[str, Any]) -> str:
    queue = f"Celery queue {row['queue']}" if row["queue"] else "a Celery queue"
    return f"sent to {queue}" + (f" by lane {row['lane']}" if row["lane"] != row["queue"] else "")


def _unanswered(row: dict[str, Any]) -> str:
    """Return what to do about messages that nobody starts."""
    if row["verdict"] == "passed over":
        why = (
            "others that were sent later were started: a worker of the queue takes them and cannot run them; "
            "does it call pgreact.setup, and know their tasks?"
        )
    else:
        why = "no worker is seen to consume the queue: start one, or cancel them"
    sent = f"{row['jobs']} jobs {_sent_to(row)} were sent up to {row['sent']} times and not started"
    return f"queue: {sent}; {why}"


def _taken(lane: dict[str, Any]) -> str:
    """Return what takes the places of a lane that is full."""
    unstarted = str(lane["unstarted"])
    if lane["unstarted"] >= lane["max_unstarted"]:
        unstarted += f" of {lane['max_unstarted']}"
    parts = [f"{lane['in_progress'] - lane['unstarted']} running", f"{unstarted} published and not started"]
    if lane["retrying"]:
        parts.append(f"{lane['retrying']} wait for their own retries")
    return ", ".join(parts)


def _stands(lane: dict[str, Any]) -> bool:
    """Whether a lane has no place for what is ready, though none of its jobs runs, for a while."""
    nothing_runs = lane["in_progress"] == lane["unstarted"]
    return bool(lane["full"]) and nothing_runs and (lane["oldest_s"] or 0) > STANDING


def _of(found: dict[str, Any]) -> str:
    return f"{found['in_progress']}/{found['max_in_progress'] or '-'}"


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
