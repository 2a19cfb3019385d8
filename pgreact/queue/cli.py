"""``pgreact queue``: list, show, retry, cancel and purge jobs; pause, resume and limit lanes."""

import datetime
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from pgreact.cli.support import (
    Configuration,
    Load,
    SuggestingGroup,
    confirm_deletion,
    echo,
    jsonable,
    limit_option,
)
from pgreact.errors import ConfigError, PgreactError, nearest
from pgreact.quantities import parse_limit as read_limit

if TYPE_CHECKING:  # commands import what they need when they run, so that help is fast
    from pgreact.queue.views import Connection

BATCH = 10_000  # jobs per transaction of a bulk command

_Id = click.IntRange(1, 2**63 - 1)


@click.group(cls=SuggestingGroup)
def queue() -> None:
    """Show the jobs of the queue, and change them.

    \b
    Example:
      pgreact queue list --state dead
      pgreact queue pause mail
    """


@queue.command(name="list")
@click.option("--lane", metavar="LANE", help="Only jobs of this lane.")
@click.option(
    "--state",
    type=click.Choice(["ready", "delayed", "blocked", "in_progress", "dead"]),
    help="Only jobs in this state; blocked: an earlier job has the same key.",
)
@click.option("--task", metavar="TASK", help="Only jobs of this task.")
@limit_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_jobs(
    load: Load, lane: str | None, state: str | None, task: str | None, limit: int, as_json: bool
) -> None:
    """List jobs: those in progress, then waiting jobs, then dead ones.

    \b
    Example:
      pgreact queue list --lane mail --state ready --limit 10
    """
    from pgreact.postgres.connect import connect
    from pgreact.queue import views as reader

    with connect(load().dsn) as connection:
        reader.check_lane(connection, lane)
        found = reader.jobs(connection, lane, state, task, limit + 1)
    if as_json:
        echo(json.dumps([_public(job) for job in found[:limit]], indent=2, default=jsonable))
        return
    if not found:
        echo("No jobs.")
        return
    for line in reader.job_lines(found[:limit], datetime.datetime.now(datetime.UTC)):
        echo(line)
    if len(found) > limit:
        echo(f"… and more: these are the first {limit}, see --limit")


@queue.command()
@click.argument("job", metavar="ID", type=_Id)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(load: Load, job: int, as_json: bool) -> None:
    """Show all details of one job and its history.

    \b
    Example:
      pgreact queue show 42
    """
    from pgreact.postgres.connect import connect
    from pgreact.queue import views as reader

    with connect(load().dsn) as connection:
        found = reader.job(connection, job)
    if as_json:
        echo(json.dumps(found, indent=2, default=jsonable, ensure_ascii=False))
        return
    for line in reader.details(found):
        echo(line)


@queue.command()
@click.argument("jobs", metavar="[ID]...", nargs=-1, type=_Id)
@click.option("--dead", is_flag=True, help="All dead jobs, instead of single ones by id.")
@click.option("--lane", metavar="LANE", help="With --dead: only those of this lane.")
@click.option("--task", metavar="TASK", help="With --dead: only those of this task.")
@click.pass_obj
def retry(load: Load, jobs: tuple[int, ...], dead: bool, lane: str | None, task: str | None) -> None:
    """Queue dead jobs again with all their attempts; let delayed jobs run now.

    \b
    Example:
      pgreact queue retry 42 43
      pgreact queue retry --dead --task proj.tasks.send_email
    """
    from pgreact.postgres.connect import connect
    from pgreact.queue import views as reader

    if bool(jobs) == dead:
        raise click.UsageError("give the ids of jobs, or --dead")
    if not dead and (lane or task):
        raise click.UsageError("--lane and --task need --dead")
    with connect(load().dsn) as connection:
        reader.check_lane(connection, lane)
        if dead:
            echo(f"retried {_retry_dead(connection, lane, task)} dead jobs")
            return
        _each(
            connection,
            jobs,
            "select pgreact.retry(%s)",
            {
                True: "retried {}",
                False: "{} is {}: only dead and delayed jobs can be retried",
            },
        )


@queue.command()
@click.argument("jobs", metavar="ID...", nargs=-1, required=True, type=_Id)
@click.pass_obj
def cancel(load: Load, jobs: tuple[int, ...]) -> None:
    """Cancel jobs that have not started. A job that runs goes on, without further attempts.

    \b
    Example:
      pgreact queue cancel 42 43
    """
    from pgreact.postgres.connect import connect

    with connect(load().dsn) as connection:
        _each(
            connection,
            jobs,
            "select pgreact.cancel(%s)",
            {
                "cancelled": "cancelled {}",
                "started": "{} already runs, and goes on; it gets no further attempt",
                None: "{} is {}: nothing to cancel",
            },
        )


@queue.command()
@click.argument("lane")
@click.pass_obj
def pause(load: Load, lane: str) -> None:
    """Pause a lane: no further job of it starts. Jobs in progress go on.

    \b
    Example:
      pgreact queue pause mail
    """
    _set_lane(load(), lane, "paused", True)
    echo(f"paused {lane}")


@queue.command()
@click.argument("lane")
@click.pass_obj
def resume(load: Load, lane: str) -> None:
    """Resume a paused lane.

    \b
    Example:
      pgreact queue resume mail
    """
    _set_lane(load(), lane, "paused", False)
    echo(f"resumed {lane}")


@queue.command()
@click.argument("lane")
@click.argument("jobs", metavar="N|none")
@click.pass_obj
def limit(load: Load, lane: str, jobs: str) -> None:
    """Set a lane's max_in_progress; none removes the limit.

    \b
    Example:
      pgreact queue limit mail 10
    """
    try:
        number = read_limit(int(jobs) if jobs.lstrip("-").isdecimal() else jobs)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="N") from None
    _set_lane(load(), lane, "max_in_progress", number)
    echo(f"limited {lane} to {number} in progress" if number else f"removed the limit of {lane}")


@queue.command()
@click.option("--lane", metavar="LANE", help="Only jobs of this lane.")
@click.option("--dead", is_flag=True, help="Dead jobs, instead of waiting ones.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.pass_obj
def purge(load: Load, lane: str | None, dead: bool, yes: bool) -> None:
    """Delete all waiting jobs, or all dead ones. Jobs in progress go on.

    \b
    Example:
      pgreact queue purge --lane mail
      pgreact queue purge --dead --yes
    """
    from pgreact.postgres.connect import connect
    from pgreact.queue import views as reader

    dsn = load().dsn
    with connect(dsn) as connection:
        reader.check_lane(connection, lane)
        total = _count(connection, lane, dead)
        if not total:
            echo("Nothing to purge.")
            return
        if not yes:
            what = f"{total} {'dead' if dead else 'waiting'} jobs{f' of lane {lane}' if lane else ''}"
            confirm_deletion("purge", what, dsn)
        echo(f"deleted {_purge(connection, lane, dead, total)} jobs")


def _purge(connection: "Connection", lane: str | None, dead: bool, total: int) -> int:
    done, passed, beyond = 0, 0, 0
    with click.progressbar(length=total, label="deleting", file=sys.stderr, hidden=total <= BATCH) as bar:
        while done < total:  # jobs that are enqueued meanwhile do not prolong this
            purged, last = connection.execute(
                "select purged, last from pgreact.purge(%s, %s, %s, %s)", (lane, dead, beyond, BATCH)
            ).fetchall()[0]
            done, passed = done + purged, passed + purged
            bar.update(purged)
            if last is not None:
                beyond = last
            elif passed:
                # rows that other transactions had locked may be free by now
                passed, beyond = 0, 0
            else:
                break
    return done


def _count(connection: "Connection", lane: str | None, dead: bool) -> int:
    table = "dead" if dead else "queue"
    found = connection.execute(
        f"select count(*) from pgreact.{table} where %(lane)s::text is null or lane = %(lane)s".encode(),  # noqa: S608
        {"lane": lane},
    ).fetchall()
    return int(found[0][0])


def _retry_dead(connection: "Connection", lane: str | None, task: str | None) -> int:
    from pgreact.postgres.queries import query

    done, beyond = 0, 0
    # not the jobs that die again meanwhile
    began = connection.execute("select clock_timestamp()").fetchall()[0][0]
    while True:
        retried, last = connection.execute(
            query("queue_retry").encode(),
            {"lane": lane, "task": task, "began": began, "beyond": beyond, "batch": BATCH},
        ).fetchall()[0]
        if last is None:
            return done
        done, beyond = done + retried, last
        if retried == BATCH:
            echo(f"retried {done} so far", err=True)


def _each(connection: "Connection", jobs: tuple[int, ...], statement: str, words: dict[Any, str]) -> None:
    """Act on jobs one by one; report all failures at the end."""
    from pgreact.queue import views as reader

    failed = []
    for number in dict.fromkeys(jobs):
        answer = connection.execute(statement.encode(), (number,)).fetchall()[0][0]
        if answer:
            echo(words[answer].format(number))
            continue
        try:
            state = (reader.job(connection, number)["job"] or {"state": "settled"})["state"]
        except PgreactError as error:
            failed.append(str(error))
        else:
            failed.append(f"job {words[answer].format(number, state.replace('_', ' '))}")
    if failed:
        raise PgreactError("\n".join(failed))


def _set_lane(settings: Configuration, lane: str, column: str, value: object) -> None:
    from psycopg import sql

    from pgreact.postgres.connect import connect

    with connect(settings.dsn) as connection:
        known = [name for (name,) in connection.execute("select name from pgreact.lane").fetchall()]
        done = connection.execute(
            sql.SQL("update pgreact.lane set {} = {} where name = {}").format(
                sql.Identifier(column), value, lane
            )
        )
        if not done.rowcount:
            raise ConfigError(f'no lane "{lane}"{nearest(lane, known)}')
    entry = settings.lanes.get(lane)
    if entry and column in entry.model_fields_set and getattr(entry, column) != value:
        echo(
            f'note: {settings.label} sets lanes.{lane}.{column}, so the next "pgreact apply" undoes this',
            err=True,
        )


def _public(job: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in job.items() if key != "place"}
