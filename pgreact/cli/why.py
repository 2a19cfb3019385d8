"""``pgreact why``: why a job, a schedule or a route does not run."""

import json
import re
from typing import TYPE_CHECKING

import click

from pgreact.cli.support import Load, echo, jsonable
from pgreact.errors import ConfigError

if TYPE_CHECKING:  # commands import what they need when they run, so that help is fast
    from pgreact.postgres.change import Connection

_KINDS = {"job": "id", "schedule": "name", "route": "name"}  # of subjects, and what follows the colon


@click.command()
@click.argument("subject", metavar="JOB|SCHEDULE|route:NAME")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def why(load: Load, subject: str, as_json: bool) -> None:
    """Explain why a job, a schedule or a route does not run.

    For a job the answer comes from the rules of the claim: what has to happen for it to run, and when that is
    known to be. It only reads. A number is the id of a job; job:ID and schedule:NAME say which is meant.

    \b
    Example:
      pgreact why 42
      pgreact why "nightly report"
      pgreact why route:dispatch
    """
    from pgreact.cli import route_why
    from pgreact.postgres.change import rows
    from pgreact.postgres.connect import connect
    from pgreact.postgres.queries import query
    from pgreact.queue import why as job_why
    from pgreact.timetable import why as schedule_why

    kind, colon, name = subject.partition(":")
    if colon and not name and kind in _KINDS:
        raise ConfigError(f"{subject} lacks the {kind}'s {_KINDS[kind]}: write {kind}:{_KINDS[kind].upper()}")
    if kind not in _KINDS or not name:
        kind, name = "job" if re.fullmatch("[0-9]+", subject) else "schedule", subject
    if kind == "job" and not (re.fullmatch("[0-9]+", name) and 0 < int(name) < 2**63):
        raise ConfigError(f"job {name}: the id of a job is a number from 1 to 9223372036854775807")
    with connect(load().dsn) as connection:
        if kind == "job" and name == subject and _is_schedule(connection, name):
            raise ConfigError(
                f'"{name}" is a schedule, and may be a job: write job:{name} or schedule:{name}'
            )
        if kind == "job":
            found = job_why.why(connection, int(name))
            lines = job_why.lines(found)
        elif kind == "route":
            found = route_why.why(connection, name)
            lines = route_why.lines(found)
        else:
            try:
                found = schedule_why.why(connection, name)
            except ConfigError as error:
                routes = [row["name"] for row in rows(connection, query("route_status"))]
                if name in routes:
                    raise ConfigError(f'no schedule "{name}"; did you mean "route:{name}"?') from error
                raise
            lines = schedule_why.lines(found)
    if as_json:
        echo(json.dumps(found, indent=2, default=jsonable, ensure_ascii=False))
        return
    for line in lines:
        echo(line)


def _is_schedule(connection: "Connection", name: str) -> bool:
    """Return whether a schedule has the name; a role that may not read schedules cannot mean one."""
    import psycopg

    from pgreact.postgres.change import rows, savepoint
    from pgreact.postgres.queries import query

    try:
        with savepoint(connection):
            return bool(rows(connection, query("schedule_named"), {"names": [name]}))
    except psycopg.errors.InsufficientPrivilege:
        return False
