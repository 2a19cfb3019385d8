"""Why a route does not dispatch: leader, triggers, gate, flight and sweep."""

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg

from pgreact.dispatch.route import QUEUE_ROUTE
from pgreact.errors import ConfigError, nearest, quoted
from pgreact.postgres.change import Connection, rows, savepoint
from pgreact.postgres.queries import query
from pgreact.quantities import format_duration
from pgreact.queue.views import remedy
from pgreact.queue.why import START, ago

READY_TIMEOUT_MS = 2000
_VERDICTS = {
    "failing": "does not dispatch",
    "in_flight": "is in flight",
    "dirty": "is about to dispatch",
    "idle": "waits for a signal",
}


def why(connection: Connection, name: str) -> dict[str, Any]:
    """Explain why a route does not dispatch.

    Args:
        connection: Any session on the database.
        name: The route's name.

    Returns:
        ``route``: its name; ``verdict``: ``failing``, ``in_flight``, ``dirty`` or ``idle``; ``causes``, each
        with ``code``, ``text`` and ``known_at``.

    Raises:
        ConfigError: The name does not exist; the message suggests similar ones.
    """
    found = rows(connection, query("route_why"), {"name": name})
    if not found:
        known = [row["name"] for row in rows(connection, query("route_status"))]
        raise ConfigError(f'no route "{name}"{nearest(name, known)}')
    [row] = found
    leads = any(daemon["granted"] for daemon in rows(connection, query("daemons")))
    triggers = [each for each in rows(connection, query("trigger_health")) if each["route"] == name]
    failing = [*_failing(row, leads, triggers)]
    # what a dead leader wrote of its flight is no longer true
    flight = [*_flight(row)] if leads else []
    verdict = "failing" if failing else flight[0]["code"] if flight else "idle"
    return {
        "route": name,
        "verdict": verdict,
        "causes": [*failing, *flight, *_signals(connection, row, leads, triggers)],
    }


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Return the answer for people, line by line.

    Args:
        found: The result of :func:`why`.
    """
    yield f"route {quoted(found['route'])} {_VERDICTS[found['verdict']]}:"
    yield from (f"  {cause['text']}" for cause in found["causes"])


def _cause(code: str, text: str, known_at: datetime.datetime | None = None) -> dict[str, Any]:
    return {"code": code, "text": text, "known_at": known_at}


def _failing(row: Mapping[str, Any], leads: bool, triggers: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    if not leads:
        yield _cause("no_leader", f"no daemon leads, so nothing is dispatched: {START}")
    elif row["error"]:
        yield _cause("dispatch_failing", f"the last dispatch failed, and is tried again: {row['error']}")
    for trouble in row["troubles"] or ():
        yield _cause("leader_failing", f"the leader fails at {trouble['subject']}: {trouble['error']}")
    for each in triggers:
        if each["trigger"] != "ok":
            text = f"{each['event']} on {each['table']} does not signal: trigger {each['trigger']}"
            yield _cause("trigger", f"{text}: {remedy(each)}")
    if leads and row["unstarted_since"]:
        text = f"no worker starts {row['task']}, for {ago(row['unstarted_since'], row['now'])}"
        yield _cause("unstarted", f"{text}: does a running worker call pgreact.setup?")


def _flight(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    now, window = row["now"], datetime.timedelta(seconds=row["window_s"])
    if row["in_flight_since"]:
        where = f"on {row['runs_on']}" if row["runs_on"] else "no worker runs it yet"
        text = f"a call of {row['task']} is in flight for {ago(row['in_flight_since'], now)}, {where}"
        yield _cause("in_flight", f"{text}: the next dispatch follows when it ends")
    if row["dirty_since"]:
        published = row["published_at"]
        opens = published + window if published and published + window > now else None
        text = f"it was signalled {ago(row['dirty_since'], now)} ago, and no publish has answered that yet"
        wait = f"; its window of {format_duration(row['window_s'])} is not over" if opens else ""
        yield _cause("dirty", text + wait, opens)


def _signals(
    connection: Connection, row: Mapping[str, Any], leads: bool, triggers: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Return where the next signal comes from."""
    if not triggers:
        yield _cause("no_tables", "it watches no table: only a sweep or pgreact.signal dispatches it")
    if leads and row["gate"] == "closed":
        poll = format_duration(row["gate_poll_s"])
        text = f"its gate is closed for {ago(row['gate_since'], row['now'])} ({row['gate_setting']})"
        yield _cause("gate_closed", f"{text}: writers do not NOTIFY, and the leader polls each {poll}")
    if not row["sweep_s"]:
        yield _cause("no_sweep", "sweep = 0: work without a signal is found at an election only")
    else:
        sweep = f"a sweep looks for work without a signal each {format_duration(row['sweep_s'])}"
        ready, error = _ready(connection, row["ready"])
        if error:
            sweep += f"; its ready query fails here, which counts as true: {error}"
        elif ready is False:
            sweep += "; its ready query returns false now, so it would not dispatch"
        yield _cause("not_ready" if ready is False else "sweep", sweep)
    if row["published_at"]:
        last = f"its last dispatch was {ago(row['published_at'], row['now'])} ago, {row['dispatches']} in all"
        yield _cause("dispatched", last)
    elif row["name"] != QUEUE_ROUTE:  # the leader claims its jobs, and dispatches no call
        yield _cause("no_dispatch", "it has had no dispatch yet")


def _ready(connection: Connection, text: str | None) -> tuple[bool | None, str | None]:
    """Return what the route's ready query returns, or why it fails, in a transaction that cannot write."""
    if text is None:
        return None, None
    try:
        with savepoint(connection):
            connection.execute("set local transaction_read_only = on")
            connection.execute(f"set local statement_timeout = {READY_TIMEOUT_MS}".encode())
            row = connection.execute(text.encode()).fetchone()
    except psycopg.Error as error:
        return None, str(error).splitlines()[0]
    return bool(row and row[0]), None
