"""Wake-ups: schema, triggers, daemons, gates and routes."""

from collections.abc import Iterator
from typing import Any

from psycopg import sql

from pgreact import __version__
from pgreact.dispatch.route import QUEUE_ROUTE
from pgreact.doctor.checks import Finding, check, fail, warn
from pgreact.doctor.connection import reset, where
from pgreact.doctor.facts import Facts, statement
from pgreact.postgres import migrations
from pgreact.quantities import format_duration
from pgreact.wakeup.orphans import described, orphans

DIRTY = 30.0  # seconds
START = "pgreact -A proj listen"


@check("wakeup.schema", "the schema's migrations and functions beside those of the installed pgreact")
def schema(facts: Facts) -> Iterator[Finding]:
    found = facts.row("doctor_schema")
    if not found["applied"]:
        yield fail("the database has no schema of pgreact", "pgreact apply")
        return
    applied: dict[str, str] = {row["name"]: row["checksum"] for row in facts.rows("doctor_migrations")}
    ours, functions = migrations.migrations(), migrations.functions()
    newer = sorted(set(applied) - {step.name for step in ours} - {functions.name})
    missing = [step.name for step in ours if step.name not in applied]
    if newer:
        yield fail(
            f"a newer pgreact than {__version__} set the database up (migration {newer[-1]})",
            "pip install --upgrade pgreact",
        )
    elif missing:
        yield fail(f"the migrations from {missing[0]} on have not run", "pgreact apply")
    elif applied.get(functions.name) != functions.checksum:
        yield fail(f"the functions are not those of pgreact {__version__}", "pgreact apply")


@check("wakeup.triggers", "the trigger of each watched change and outbox, also on partitions and children")
def triggers(facts: Facts) -> Iterator[Finding]:
    watched = facts.rows("trigger_health")
    if not any(row["route"] == QUEUE_ROUTE for row in watched):
        yield fail("the queue's own triggers are missing", "pgreact apply")
    for row in [*watched, *facts.rows("queue_outbox")]:
        if row["trigger"] != "ok":
            yield fail(
                f"{_subject(row)}: {row['event']} on {row['table']}: trigger {row['trigger']}", _attach(row)
            )


@check("wakeup.orphans", "triggers and gates whose route is gone, and routes without a gate")
def orphaned(facts: Facts) -> Iterator[Finding]:
    with facts.transaction() as connection:
        found = orphans(connection)
    for row in found:
        yield warn(described(row), "pgreact apply")


@check("wakeup.replicated_tables", "watched tables that a subscription feeds")
def replicated_tables(facts: Facts) -> Iterator[Finding]:
    for row in facts.rows("doctor_replicated"):
        yield fail(
            f"{_subject(row)}: subscription {row['subscription']} feeds {row['table']}, and the trigger for "
            f"{row['event']} fires only for rows that are written here",
            _attach({**row, "always": True}, f"set always = true for {row['table']}, then: pgreact apply"),
        )


@check("wakeup.replication_role", "defaults of session_replication_role that silence triggers")
def replication_role(facts: Facts) -> Iterator[Finding]:
    for row in facts.rows("doctor_role_settings", names=["session_replication_role"]):
        if row["value"] == "replica":
            yield fail(
                f"session_replication_role = replica of {where(row)}: its sessions fire no trigger, so their "
                "changes signal nothing",
                reset(row),
            )


@check("wakeup.leader", "the session that holds the leader's lock")
def leader(facts: Facts) -> Iterator[Finding]:
    if facts.leader is None:
        yield fail("no daemon leads: nothing is dispatched", START)


@check("wakeup.two_leaders", "sessions that call themselves leader and do not hold its lock")
def two_leaders(facts: Facts) -> Iterator[Finding]:
    for daemon in facts.daemons:
        if daemon.identity.role == "leader" and not daemon.leads:
            yield fail(
                f"{daemon.identity.host} pid {daemon.identity.pid} calls itself leader without the lock",
                f"select pg_terminate_backend({daemon.pid});",
            )


@check("wakeup.standby", "the daemons that take over when the leader ends")
def standby(facts: Facts) -> Iterator[Finding]:
    if facts.leader is not None and len(facts.daemons) < 2:
        yield warn("no daemon stands by: nothing is dispatched while the leader restarts", START)


@check("wakeup.versions", "the versions of the daemons")
def versions(facts: Facts) -> Iterator[Finding]:
    for daemon in facts.daemons:
        if daemon.identity.version != __version__:
            yield warn(
                f"{daemon.identity.host} pid {daemon.identity.pid} runs pgreact "
                f"{daemon.identity.version or 'of an unknown version'}, and here is {__version__}",
                f"pip install pgreact=={__version__}   # on {daemon.identity.host}, and restart its daemon",
            )


@check("wakeup.gate", "closed gates while no daemon leads")
def gate(facts: Facts) -> Iterator[Finding]:
    if facts.leader is not None:
        return
    for row in facts.rows("doctor_routes"):
        if row["gate"] == "closed" or row["always_closed"]:
            yield fail(
                f"route {row['name']}: its gate is closed, so writers do not notify, and no daemon polls",
                START,
            )


@check("wakeup.sweep", "routes that neither a table nor a sweep wakes")
def sweep(facts: Facts) -> Iterator[Finding]:
    for row in facts.rows("doctor_routes"):
        if row["sweep"] == 0 and not row["watches"]:
            remedy = statement("update pgreact.route set sweep = '60 s' where name = {};", row["name"])
            if row["origin"] == "config":
                remedy = f'[routes.{row["name"]}]\nsweep = "60s"   # then: pgreact apply'
            yield warn(
                f"route {row['name']}: it watches no table and never sweeps; only pgreact.signal() wakes it",
                remedy,
            )


@check("wakeup.dirty", "routes with a signal that no dispatch has answered")
def dirty(facts: Facts) -> Iterator[Finding]:
    for row in facts.rows("doctor_routes"):
        # with single_flight = "run" the next call waits until the run ends
        waits = row["single_flight"] == "run" and row["in_flight"]
        if (row["dirty_s"] or 0) > DIRTY and not waits:
            since = format_duration(row["dirty_s"], roughly=True)
            yield fail(
                f"route {row['name']}: a signal waits for its dispatch for {since}"
                + (f": {row['error']}" if row["error"] else ""),
                "pgreact doctor celery.broker wakeup.leader wakeup.routes",
            )


@check("wakeup.routes", "the last publish and run of each route, and what the daemon retries")
def routes(facts: Facts) -> Iterator[Finding]:
    for row in facts.rows("doctor_routes"):
        if row["error"]:
            yield fail(f"route {row['name']}: {row['error']}", "pgreact doctor celery.broker")
        if row["unstarted_s"] is not None:
            yield fail(
                f"route {row['name']}: no worker starts its task {row['task']}",
                "pgreact doctor celery.workers celery.setup celery.unknown_task celery.unconsumed_queue",
            )
    for row in facts.rows("troubles"):
        yield warn(f"{row['subject']} fails and is retried: {row['error']}", "pgreact status")


def _subject(row: dict[str, Any]) -> str:
    return f"route {row['route']}" if row.get("route") else f"outbox {row['task']}"


def _attach(row: dict[str, Any], configured: str = "pgreact apply") -> str:
    """Return what attaches a table again: ``apply`` for the file's and the queue's own, else a statement."""
    if row["origin"] == "config" or row["table"].startswith("pgreact."):
        return configured
    events = sql.Literal(f"{{{row['event']}}}")
    rest = {key: row[key] for key in ("condition", "changed") if row[key]}
    if row["always"]:
        rest["always"] = True
    arguments: list[sql.Composable] = [
        sql.Literal(row["table"]),
        sql.Literal(row.get("route") or row["task"]),
        events,
    ]
    if not row.get("route"):
        arguments.append(sql.SQL("{}::pgreact.lane_name").format(row["lane"]))
    arguments += [sql.SQL(f"{key} => ") + sql.Literal(value) for key, value in rest.items()]
    return sql.SQL("select pgreact.attach({});").format(sql.SQL(", ").join(arguments)).as_string()
