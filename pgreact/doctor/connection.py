"""The way to PostgreSQL: server, pooler, application, rights, notifications, time-outs."""

import json
import re
from collections.abc import Iterator
from uuid import uuid4

import psycopg

from pgreact.apply import plan
from pgreact.doctor.checks import CannotSee, Finding, check, fail, warn
from pgreact.doctor.facts import Facts, statement
from pgreact.errors import ConfigError, PgreactError
from pgreact.postgres.installation import owner_of, refuse
from pgreact.postgres.queries import folder
from pgreact.quantities import format_duration

PROBE = 2.0  # seconds for a notification to arrive
NOTIFY_HIGH, NOTIFY_FULL = 0.25, 0.5  # of PostgreSQL's queue of notifications; at 0.5 daemons stop listening
SHORT = 1.0  # seconds: a time-out below this ends a worker's transaction before the worker switches it off
_TIMEOUTS = ("statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout")


@check("connection.reachable", "PostgreSQL at dsn")
def reachable(facts: Facts) -> Iterator[Finding]:
    try:
        assert facts.connection
    except CannotSee as error:
        yield fail(
            str(error.__cause__ or error), "pgreact --dsn postgresql://USER@HOST/DATABASE doctor connection"
        )


@check("connection.replica", "whether PostgreSQL is the primary")
def replica(facts: Facts) -> Iterator[Finding]:
    with facts.transaction() as connection:
        [(replica,)] = connection.execute("select pg_is_in_recovery()").fetchall()
    if replica:
        yield fail(
            "dsn leads to a replica, where LISTEN does not work and nothing can be written",
            'dsn = "postgresql://HOST1,HOST2/DATABASE?target_session_attrs=read-write"',
        )


@check("connection.pooler", "a notification of this command to itself, by way of the daemon's DSN")
def pooler(facts: Facts) -> Iterator[Finding]:
    assert facts.connection  # no second wait for a server that is away
    channel = f"pgreact_{uuid4().hex}"
    dsn = facts.settings.daemon_dsn
    with facts.connect(dsn) as listener, facts.connect(dsn) as sender:
        try:
            listener.execute(f"listen {channel}".encode())
            sender.execute("select pg_notify(%s, '')", (channel,))
            arrived = [*listener.notifies(timeout=PROBE, stop_after=1)]
        except psycopg.errors.FeatureNotSupported:
            arrived = []
    if not arrived:
        yield fail(
            "LISTEN works and nothing arrives: the daemon's DSN leads to a pooler in transaction mode",
            'listen_dsn = "postgresql://HOST:5432/DATABASE"   # PostgreSQL itself, in pgreact.toml',
        )


@check("connection.application", "the application that owns the database")
def application(facts: Facts) -> Iterator[Finding]:
    with facts.transaction() as connection:
        owner = owner_of(connection)
    try:
        refuse(owner, facts.settings.owner)
    except PgreactError as error:
        yield fail(str(error), f'application = "{owner}"   # in pgreact.toml')


@check("connection.configuration", "the objects of the database beside those of the file")
def configuration(facts: Facts) -> Iterator[Finding]:
    settings = facts.settings
    if settings.source is None or not settings.describes_objects:
        return
    assert facts.connection
    try:
        with facts.transaction() as connection:
            steps = plan(connection, settings)
    except ConfigError as error:
        yield fail(
            str(error), f"create what the file names, or correct {settings.source}; then: pgreact apply"
        )
        return
    except PgreactError as error:
        yield fail(str(error), "pgreact apply --check")
        return
    except psycopg.errors.InsufficientPrivilege as error:
        schema = re.fullmatch(r"permission denied for schema (.+)", error.diag.message_primary or "")
        if schema is None or schema[1] == "pgreact":
            raise
        remedy = statement("grant usage on schema {} to {};", identifiers=(schema[1], facts.role))
        raise CannotSee(schema[0], remedy) from error
    if steps:
        more = f", and {len(steps) - 1} more steps" if len(steps) > 1 else ""
        yield warn(f"the database differs from {settings.source}: {steps[0]}{more}", "pgreact apply")


@check("connection.grants", "the rights of the roles of daemons and workers, and of this command's role")
def grants(facts: Facts) -> Iterator[Finding]:
    wanted = {
        *((daemon.role, "daemon") for daemon in facts.daemons),
        *((row["role"], "worker") for identity, row in facts.sessions if identity.role == "worker"),
        (facts.role, "monitor"),
    }
    for role, kind in sorted(wanted):
        rights = [{"kind": kind, "object": name, "privilege": right} for kind, name, right in rights_of(kind)]
        lacking = facts.rows("doctor_privileges", role=role, wanted=json.dumps(rights))
        if lacking:
            first = f"{lacking[0]['privilege']} on {lacking[0]['object']}"
            more = f", and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            yield (warn if kind == "monitor" else fail)(
                f"role {role} lacks rights of a {kind}: {first}{more}",
                statement("select pgreact.grant_role({}, {});", role, kind),
            )


def rights_of(kind: str) -> Iterator[tuple[str, str, str]]:
    """Return what ``pgreact.grant_role`` grants to a kind of role: an object's kind, its name, and the right.

    Args:
        kind: Of the role.
    """
    text = (folder("sql") / "functions" / "grant_role.sql").read_text("utf-8")
    found = re.search(rf"when [^\n]*'{kind}'[^\n]* then(.*?)\n        (?:when|else)\b", text, re.DOTALL)
    assert found, kind
    # PostgreSQL joins literals on two lines
    branch = re.sub(r"'\s*\n\s*'", "", found[1].partition("if kind =")[0])
    granted = r"'grant (select|execute|usage|[a-z, ]+) on (schema |function )?([^%]+?) to %"
    for rights, of, objects in re.findall(granted, branch):
        for name in re.findall(r"[\w.]+(?:\([^)]*\))?", objects):
            for right in rights.split(", "):
                yield (of or "table").strip(), name, right
    for table in re.findall(r"'(pgreact\.\w+)'::regclass", branch):
        yield "columns", table, "select"


@check("connection.notify_queue", "how full PostgreSQL's queue of notifications is")
def notify_queue(facts: Facts) -> Iterator[Finding]:
    found = facts.row("doctor_notify_queue")
    if found["usage"] <= NOTIFY_HIGH:
        return
    text = f"PostgreSQL's queue of notifications is {found['usage']:.0%} full: a session that listens is late"
    remedy = "end the session that listens and stays in a transaction, on any database of the server"
    if found["pid"] is not None:
        open_for = format_duration(found["seconds"] or 0, roughly=True)
        text += f"; the longest transaction is open for {open_for}, by {found['detail']}"
        remedy = f"select pg_terminate_backend({found['pid']});"
    yield (fail if found["usage"] > NOTIFY_FULL else warn)(text, remedy)


@check("connection.timeouts", "time-outs of roles, database and server that end a worker's transaction")
def timeouts(facts: Facts) -> Iterator[Finding]:
    for row in facts.rows("doctor_role_settings", names=list(_TIMEOUTS)):
        seconds = _seconds(row["value"])
        if 0 < seconds < SHORT:
            yield warn(
                f"{row['name']} = {row['value']} of {where(row)}: too short for a worker to begin a run, "
                "for which it then switches the time-out off",
                reset(row),
            )


def where(row: dict[str, str | None]) -> str:
    """Return whose default a row of ``doctor_role_settings`` is."""
    names = [f"{kind} {row[kind]}" for kind in ("role", "database") if row[kind]]
    return " in ".join(names) or "the server"


def reset(row: dict[str, str | None]) -> str:
    """Return the statement that removes the default of a row of ``doctor_role_settings``."""
    name, role, database = row["name"], row["role"], row["database"]
    if role and database:
        return statement(f"alter role {{}} in database {{}} reset {name};", identifiers=(role, database))
    if role:
        return statement(f"alter role {{}} reset {name};", identifiers=(role,))
    if database:
        return statement(f"alter database {{}} reset {name};", identifiers=(database,))
    return f"alter system reset {name}; select pg_reload_conf();"


def _seconds(value: str) -> float:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|min|h|d)?\s*", value)
    units = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
    return float(found[1]) * units[found[2] or "ms"] if found else 0.0
