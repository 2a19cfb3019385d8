"""``pgreact status``: leader and standbys, routes with their triggers, queue, timetable, what is wrong."""

import datetime
import json
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.rows import dict_row

from pgreact.apply import plan
from pgreact.cli.support import jsonable
from pgreact.dispatch.route import QUEUE_ROUTE
from pgreact.errors import PgreactError
from pgreact.postgres.application_name import parse
from pgreact.postgres.change import conditions, savepoint
from pgreact.postgres.installation import owner_of
from pgreact.postgres.queries import query
from pgreact.quantities import format_duration
from pgreact.queue import canary_status, views
from pgreact.settings import Settings
from pgreact.timetable import overview
from pgreact.wakeup.orphans import described, orphans


def read(
    connection: "psycopg.Connection[tuple[Any, ...]]", settings: Settings | None = None
) -> dict[str, Any]:
    """Return the state of the cluster, ready for JSON.

    Args:
        connection: Any session on the database.
        settings: The configuration to compare the database with, if any.

    Returns:
        ``application`` (the owner of the database), ``leader`` and ``standbys`` (host, pid, since),
        ``routes`` with their tables, ``orphans`` (see :func:`pgreact.wakeup.orphans.orphans`), ``queue`` (see
        :func:`pgreact.queue.views.overview`, with its last ``dispatch``), ``canary`` (see
        :func:`pgreact.queue.canary_status.read`), ``timetable`` (see
        :func:`pgreact.timetable.overview.overview`), ``troubles`` (failures that the leader or a Beat
        retries), ``file`` (the steps in which the database ``differs`` from it, or why it was
        ``not_compared``), ``reasons`` (what is wrong, a line each) and ``healthy`` (no reason).
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        daemons = [
            {**_daemon(row["application_name"]), "leads": row["granted"]}
            for row in cursor.execute(query("daemons").encode()).fetchall()
        ]
        tables = cursor.execute(query("trigger_health").encode()).fetchall()
        routes = [
            {
                "name": row["name"],
                "task": row["task"],
                "window_s": row["window_s"],
                "single_flight": row["single_flight"],
                "dispatches": row["dispatches"],
                "last_dispatch": {
                    key: row[key] for key in ("published_at", "task_id", "signals", "waited_ms")
                }
                if row["task_id"]
                else None,
                "dirty_since": row["dirty_since"],
                "in_flight_since": row["in_flight_since"],
                "error": row["error"],
                "gate": {"setting": row["gate_setting"], "now": row["gate"], "since": row["gate_since"]},
                "unstarted_since": row["unstarted_since"],
                "tables": [
                    {key: table[key] for key in views.TRIGGER}
                    for table in tables
                    if table["route"] == row["name"]
                ],
            }
            for row in cursor.execute(query("route_status").encode()).fetchall()
        ]
        troubles = cursor.execute(query("troubles").encode()).fetchall()
    orphaned = orphans(connection)
    found = views.overview(connection, tables)
    canary = canary_status.read(connection)
    schedules = overview.overview(connection)
    built_in = next((route for route in routes if route["name"] == QUEUE_ROUTE), None)
    if built_in:
        del built_in["tables"]
    leader = next((daemon for daemon in daemons if daemon["leads"]), None)
    differs, incomparable = _differences(connection, settings)
    reasons = [
        *([] if leader else ["no daemon leads"]),
        *(f"route {route['name']}: {route['error']}" for route in routes if route["error"]),
        *(
            f"route {route['name']}: no worker starts its task"
            for route in routes
            if route["unstarted_since"]
        ),
        *(
            reason
            for route in routes
            for reason in views.trigger_reasons(f"route {route['name']}", route.get("tables", ()))
        ),
        *(f'{described(row)}: run "pgreact apply"' for row in orphaned),
        *found.pop("reasons"),
        *([reason] if (reason := canary_status.reason(canary)) else []),
        *schedules.pop("reasons"),
        *(f"{trouble['subject']}: {trouble['error']}" for trouble in troubles),
        *([_difference(settings, differs)] if differs else []),
    ]
    return {
        "healthy": not reasons,
        "reasons": reasons,
        "application": owner_of(connection),
        "leader": _without_role(leader) if leader else None,
        "standbys": [_without_role(daemon) for daemon in daemons if not daemon["leads"]],
        "routes": [route for route in routes if route is not built_in],
        "orphans": [{key: row[key] for key in ("kind", "name", "table")} for row in orphaned],
        "queue": {**found, "dispatch": built_in},
        "canary": canary,
        "timetable": schedules,
        "troubles": troubles,
        "file": {
            "name": settings.source if settings else None,
            "differs": differs,
            "not_compared": incomparable,
        },
    }


def _differences(
    connection: "psycopg.Connection[tuple[Any, ...]]", settings: Settings | None
) -> tuple[list[str], str | None]:
    """Return the steps in which the database differs from the file, or why they were not compared."""
    if settings is None or settings.source is None:
        return [], "no configuration file"
    if not settings.describes_objects:
        return [], "the file names no routes, lanes, outbox or schedules"
    try:
        with savepoint(connection):
            return [str(step) for step in plan(connection, settings)], None
    except PgreactError as error:
        return [str(error)], None
    except psycopg.errors.InsufficientPrivilege as error:
        return [], f"a right is missing: {error.diag.message_primary}"


def _difference(settings: Settings | None, differs: list[str]) -> str:
    more = f", and {len(differs) - 1} more" if len(differs) > 1 else ""
    file = settings.source if settings else None
    return f'the database differs from {file}: {differs[0]}{more}; run "pgreact apply --check"'


def as_json(status: dict[str, Any]) -> str:
    """Return a status as ``pgreact status --json`` prints it."""
    return json.dumps(status, indent=2, default=jsonable)


def lines(status: dict[str, Any], now: datetime.datetime) -> Iterator[str]:
    """Return the lines of a status for people."""
    if status["application"]:
        yield f"application {status['application']}"
    leader = status["leader"]
    if leader:
        yield f"leader   {leader['host']} pid {leader['pid']}, for {ago(leader['since'], now)}"
    else:
        yield 'leader   NONE: no daemon leads; start one with "pgreact listen"'
    for standby in status["standbys"]:
        yield f"standby  {standby['host']} pid {standby['pid']}, for {ago(standby['since'], now)}"
    for route in status["routes"]:
        yield ""
        yield f"route {route['name']} → {route['task']} (window {format_duration(route['window_s'])})"
        yield from _dispatches(route, now)
        for table in route["tables"]:
            when = conditions(table["condition"], table["always"], table["changed"])
            state = "ok" if table["trigger"] == "ok" else f"{table['trigger'].upper()}: {views.remedy(table)}"
            yield f"  {table['event']} on {table['table']}{when}: trigger {state}"
        if not route["tables"]:
            yield "  watches no table"
    if status["orphans"]:
        yield ""
    for row in status["orphans"]:
        yield f'REPAIR   {described(row)}: run "pgreact apply"'
    yield ""
    yield from views.overview_lines(status["queue"])
    if status["queue"]["dispatch"]:
        yield from _dispatches(status["queue"]["dispatch"], now)
    if status["canary"]:
        yield canary_status.line(status["canary"], now)
    yield from overview.overview_lines(status["timetable"], now)
    yield from _failures(status, now)


def _failures(status: dict[str, Any], now: datetime.datetime) -> Iterator[str]:
    for trouble in status["troubles"]:
        yield f"FAILING  {trouble['subject']}, for {ago(trouble['since'], now)}: {trouble['error']}"
    for difference in status["file"]["differs"]:
        yield f"DIFFERS  {difference}"
    if status["reasons"]:
        yield ""
    for reason in status["reasons"]:
        yield f"UNHEALTHY  {reason}"


def _dispatches(route: dict[str, Any], now: datetime.datetime) -> Iterator[str]:
    last = route["last_dispatch"]
    if last:
        waited = format_duration(last["waited_ms"] / 1000)
        signals = f"{last['signals']} signal{'' if last['signals'] == 1 else 's'}"
        yield (
            f"  last dispatch {ago(last['published_at'], now)} ago: task {last['task_id']}, "
            f"{signals}, waited {waited}; {route['dispatches']} in all"
        )
    elif route["name"] != QUEUE_ROUTE:
        yield "  no dispatch yet"
    if route["error"]:
        yield f"  FAILING: {route['error']}"
    if route["dirty_since"]:
        yield f"  dirty for {ago(route['dirty_since'], now)}"
    if route["in_flight_since"]:
        yield f"  in flight for {ago(route['in_flight_since'], now)}"
    yield from _flight_and_gate(route, now)


def _flight_and_gate(route: dict[str, Any], now: datetime.datetime) -> Iterator[str]:
    if since := route["unstarted_since"]:
        yield f"  UNSTARTED for {ago(since, now)}: no worker that calls pgreact.setup starts the task;"
        yield "    are workers running, and does their application call pgreact.setup(app)?"
    gate = route["gate"]
    if gate["now"] == "closed":
        yield f"  gate closed for {ago(gate['since'], now)} ({gate['setting']}): writers do not NOTIFY"


def _daemon(name: str) -> dict[str, Any]:
    found = parse(name)
    if found is None:
        return {"host": name or "unknown", "pid": None, "since": None}
    since = datetime.datetime.fromtimestamp(found.since, datetime.UTC)
    return {"host": found.host, "pid": found.pid, "since": since}


def _without_role(daemon: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in daemon.items() if key != "leads"}


def ago(then: datetime.datetime | None, now: datetime.datetime) -> str:
    """Return the time since an event."""
    return "an unknown time" if then is None else format_duration((now - then).total_seconds(), roughly=True)
