"""``pgreact schedule``: list, add, edit and remove schedules."""

import datetime
import json
from typing import TYPE_CHECKING, Any

import click

from pgreact.cli.support import Load, SuggestingGroup, confirm_deletion, echo, limit_option
from pgreact.timetable.cli_options import column_options, entry
from pgreact.timetable.settings import WAYS

if TYPE_CHECKING:  # commands import what they need when they run, so that help is quick
    from pgreact.timetable.edit import Rows

_names = click.argument("names", metavar="NAME...", nargs=-1, required=True)
_names_or_all = click.argument("names", metavar="[NAME]...", nargs=-1)
_all = click.option("--all", "all_of_them", is_flag=True, help="All schedules, instead of names.")

# the source that manages schedules of an origin, and the command that writes them
_MANAGERS = {
    "config": ("configuration", "pgreact apply"),
    "app": ("application's beat_schedule", "celery beat"),
}


@click.group(cls=SuggestingGroup)
def schedule() -> None:
    """List and change schedules. Changes take effect at once.

    \b
    Example:
      pgreact schedule list
      pgreact schedule add "send mail" --task proj.mail --cron "0 9 * * mon-fri"
    """


@schedule.command(name="list")
@click.argument("pattern", required=False)
@click.option("--failed", is_flag=True, help="Only failed schedules.")
@limit_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_schedules(load: Load, pattern: str | None, failed: bool, limit: int, as_json: bool) -> None:
    """List the schedules whose names match PATTERN: * is any text, ? one character. Default: all.

    \b
    Example:
      pgreact schedule list "mail*" --limit 10
    """
    from pgreact.postgres.connect import connect
    from pgreact.timetable import views as reader

    with connect(load().dsn) as connection:
        found = reader.schedules(connection, pattern, limit + 1, which="failed" if failed else None)
    if as_json:
        echo(json.dumps(found[:limit], indent=2, default=reader.public, ensure_ascii=False))
        return
    if not found:
        echo("No schedules.")
        return
    for line in reader.lines(found[:limit], datetime.datetime.now(datetime.UTC)):
        echo(line)
    if len(found) > limit:
        echo(f"… and more: only the first {limit} are shown, see --limit")


@schedule.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(load: Load, name: str, as_json: bool) -> None:
    """Show one schedule: its columns, its next occurrences with changes of the clock, and its history.

    \b
    Example:
      pgreact schedule show "send mail"
    """
    from pgreact.postgres.connect import connect
    from pgreact.timetable import views as reader

    with connect(load().dsn) as connection:
        found = reader.schedule(connection, name)
    if as_json:
        echo(json.dumps(found, indent=2, default=reader.public, ensure_ascii=False))
        return
    for line in reader.details(found):
        echo(line)


@schedule.command()
@click.argument("name")
@click.option("--task", metavar="TASK", required=True, help="Name of the Celery task.")
@column_options
@click.pass_obj
def add(load: Load, /, name: str, **given: Any) -> None:
    """Add a schedule. Exactly one of --every, --cron, --at, --solar and --rrule is needed.

    \b
    Example:
      pgreact schedule add poll --task proj.poll --every 30s
    """
    from pgreact.postgres.connect import connect
    from pgreact.timetable import edit

    wanted = entry({column: value for column, value in given.items() if value is not None})
    with connect(load().dsn) as connection:
        edit.add(connection, name, wanted)
    echo(f"added {name}")


@schedule.command()
@click.argument("name")
@click.option("--task", metavar="TASK", help="Name of the Celery task.")
@column_options
@click.pass_obj
def edit(load: Load, /, name: str, **given: Any) -> None:
    """Update the given columns of a schedule; `none` clears an optional one.

    \b
    Example:
      pgreact schedule edit poll --every 1m --end-at none
    """
    from pgreact.postgres.connect import connect
    from pgreact.timetable import edit
    from pgreact.timetable import views as reader

    changes = {column: value for column, value in given.items() if value is not None}
    if not changes:
        raise click.UsageError("no change given: name a column, like --every 1m")
    with connect(load().dsn) as connection:
        found = reader.named(connection, [name])
        # an entry needs a task and a recurrence, and its times are read in its zone
        context = {key: found[name][key] for key in ("task", "timezone")}
        way = {} if any(way in changes for way in WAYS) else {"every": "1s"}
        wanted = entry({**context, **way, **changes}).model_dump(mode="json", include=set(changes))
        edit.edit(connection, name, wanted)
    _echo_done(found, "changed")


@schedule.command()
@_names_or_all
@_all
@click.pass_obj
def enable(load: Load, names: tuple[str, ...], all_of_them: bool) -> None:
    """Enable schedules, from their next occurrence on. Named schedules that failed are retried.

    Occurrences due while a schedule was disabled are not made up for, not even that of --at.

    \b
    Example:
      pgreact schedule enable poll "send mail"
      pgreact schedule enable --all
    """
    _enable(load, names, all_of_them, enabled=True)


@schedule.command()
@_names_or_all
@_all
@click.pass_obj
def disable(load: Load, names: tuple[str, ...], all_of_them: bool) -> None:
    """Disable schedules. Jobs that are already enqueued stay.

    \b
    Example:
      pgreact schedule disable poll
    """
    _enable(load, names, all_of_them, enabled=False)


@schedule.command()
@_names
@click.pass_obj
def run(load: Load, names: tuple[str, ...]) -> None:
    """Run schedules once, now. Their next occurrences stay as planned.

    \b
    Example:
      pgreact schedule run poll
    """
    from pgreact.postgres.connect import connect
    from pgreact.timetable import edit

    with connect(load().dsn) as connection:
        for name in edit.run(connection, names):
            echo(f"running {name}")


@schedule.command()
@_names
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def remove(load: Load, names: tuple[str, ...], yes: bool) -> None:
    """Remove schedules. Jobs that are already enqueued stay.

    \b
    Example:
      pgreact schedule remove poll --yes
    """
    from pgreact.postgres.connect import connect
    from pgreact.timetable import edit
    from pgreact.timetable import views as reader

    dsn = load().dsn
    with connect(dsn) as connection:
        found = reader.named(connection, names)
        if not yes:
            confirm_deletion("remove", ", ".join(found), dsn)
        edit.remove(connection, names)
    _echo_done(found, "removed")


def _enable(load: Load, names: tuple[str, ...], all_of_them: bool, *, enabled: bool) -> None:
    from pgreact.postgres.connect import connect
    from pgreact.timetable import edit

    if bool(names) == all_of_them:
        raise click.UsageError("give names of schedules, or --all")
    done = "enabled" if enabled else "disabled"
    with connect(load().dsn) as connection:
        if all_of_them:
            echo(f"{done} {edit.enable_all(connection, enabled=enabled)} schedules")
            return
        found = edit.enable(connection, names, enabled=enabled)
    _echo_done(found, done)
    now = datetime.datetime.now(datetime.UTC)
    for name, row in found.items():
        if enabled and not row["enabled"] and row["at"] is not None and row["at"] <= now:
            echo(
                f"note: {name} was due at {row['at']:%Y-%m-%d %H:%M:%S %Z}, while disabled, and will not "
                'make up for it: "pgreact schedule run" runs it now',
                err=True,
            )


def _echo_done(found: "Rows", done: str) -> None:
    for name, row in found.items():
        echo(f"{done} {name}")
        if row["origin"] in _MANAGERS:
            where, command = _MANAGERS[row["origin"]]
            then = "adds it again" if done == "removed" else "overwrites this once the entry changes"
            echo(f'note: {name} is in the {where}: "{command}" {then}', err=True)
