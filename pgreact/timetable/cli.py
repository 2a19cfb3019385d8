"""``pgreact schedule``: look at the timetable, and change it."""

import datetime
import json
from typing import TYPE_CHECKING, Any

import click

from pgreact.cli.support import Load, NearestGroup, confirm_deletion, echo, limit_option
from pgreact.timetable.cli_options import column_options, entry
from pgreact.timetable.settings import WAYS

if TYPE_CHECKING:  # what a command needs it imports when it runs, so that help is quick
    from pgreact.timetable.edit import Rows

_names = click.argument("names", metavar="NAME...", nargs=-1, required=True)
_names_or_all = click.argument("names", metavar="[NAME]...", nargs=-1)
_all = click.option("--all", "all_of_them", is_flag=True, help="All there are, instead of some by name.")

# where a schedule comes from that is kept by somebody else, too, and what that one does
_KEEPERS = {
    "config": ("configuration", "pgreact apply"),
    "app": ("application's beat_schedule", "celery beat"),
}


@click.group(cls=NearestGroup)
def schedule() -> None:
    """Look at the timetable, and change it; a change is in force at once.

    \b
    Example:
      pgreact schedule list
      pgreact schedule add "send mail" --task proj.mail --cron "0 9 * * mon-fri"
    """


@schedule.command(name="list")
@click.argument("pattern", required=False)
@click.option("--failed", is_flag=True, help="Only those that failed.")
@limit_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_schedules(load: Load, pattern: str | None, failed: bool, limit: int, as_json: bool) -> None:
    """List schedules by name, those that match PATTERN: * stands for any text, ? for one character.

    \b
    Example:
      pgreact schedule list "mail*" --limit 10
    """
    from pgreact.postgres.connect import connect
    from pgreact.timetable import views as reader

    with connect(load().dsn) as connection:
        found = reader.schedules(connection, pattern, limit + 1, failed=failed)
    if as_json:
        echo(json.dumps(found[:limit], indent=2, default=reader.public, ensure_ascii=False))
        return
    if not found:
        echo("No schedules.")
        return
    for line in reader.lines(found[:limit], datetime.datetime.now(datetime.UTC)):
        echo(line)
    if len(found) > limit:
        echo(f"… and more: these are the first {limit}, see --limit")


@schedule.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(load: Load, name: str, as_json: bool) -> None:
    """Show all there is about one schedule, and its next occurrences: where clocks change, it says so.

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
@click.option("--task", metavar="TASK", required=True, help="The Celery task it calls.")
@column_options
@click.pass_obj
def add(load: Load, /, name: str, **given: Any) -> None:
    """Add a schedule. One of --every, --cron, --at, --solar and --rrule says when it recurs.

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
@click.option("--task", metavar="TASK", help="The Celery task it calls.")
@column_options
@click.pass_obj
def edit(load: Load, /, name: str, **given: Any) -> None:
    """Change what is named of a schedule; none as value clears what has none by default.

    \b
    Example:
      pgreact schedule edit poll --every 1m --end-at none
    """
    from pgreact.postgres.connect import connect
    from pgreact.timetable import edit
    from pgreact.timetable import views as reader

    changes = {column: value for column, value in given.items() if value is not None}
    if not changes:
        raise click.UsageError("name what is to change, like --every 1m")
    with connect(load().dsn) as connection:
        found = reader.named(connection, [name])
        # what an entry must have besides, and the zone in which its times are read
        context = {key: found[name][key] for key in ("task", "timezone")}
        way = {} if any(way in changes for way in WAYS) else {"every": "1s"}
        wanted = entry({**context, **way, **changes}).model_dump(mode="json", include=set(changes))
        edit.edit(connection, name, wanted)
    _told(found, "changed")


@schedule.command()
@_names_or_all
@_all
@click.pass_obj
def enable(load: Load, names: tuple[str, ...], all_of_them: bool) -> None:
    """Let schedules run: from their next occurrence on. Those named that failed try again.

    What fell due while they were disabled is not made up for, nor is what was to happen once.

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
    """Let schedules run no more, until they are enabled; jobs that they enqueued go on.

    \b
    Example:
      pgreact schedule disable poll
    """
    _enable(load, names, all_of_them, enabled=False)


@schedule.command()
@_names
@click.pass_obj
def run(load: Load, names: tuple[str, ...]) -> None:
    """Run schedules now, once; their next occurrences stay as they are.

    \b
    Example:
      pgreact schedule run poll
    """
    from pgreact.postgres.connect import connect
    from pgreact.timetable import edit

    with connect(load().dsn) as connection:
        for name in edit.run(connection, names):
            echo(f"runs now: {name}")


@schedule.command()
@_names
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def remove(load: Load, names: tuple[str, ...], yes: bool) -> None:
    """Remove schedules; jobs that they enqueued stay.

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
    _told(found, "removed")


def _enable(load: Load, names: tuple[str, ...], all_of_them: bool, *, enabled: bool) -> None:
    from pgreact.postgres.connect import connect
    from pgreact.timetable import edit

    if bool(names) == all_of_them:
        raise click.UsageError("name schedules, or give --all")
    done = "enabled" if enabled else "disabled"
    with connect(load().dsn) as connection:
        if all_of_them:
            echo(f"{done} {edit.enable_all(connection, enabled=enabled)} schedules")
            return
        found = edit.enable(connection, names, enabled=enabled)
    _told(found, done)
    now = datetime.datetime.now(datetime.UTC)
    for name, row in found.items():
        if enabled and not row["enabled"] and row["at"] is not None and row["at"] <= now:
            echo(
                f"note: {name} was due at {row['at']:%Y-%m-%d %H:%M:%S %Z}, while it was disabled, and will "
                'not run for that: "pgreact schedule run" runs it now',
                err=True,
            )


def _told(found: "Rows", done: str) -> None:
    for name, row in found.items():
        echo(f"{done} {name}")
        if row["origin"] in _KEEPERS:
            where, command = _KEEPERS[row["origin"]]
            then = "makes it again" if done == "removed" else "sets it anew once its entry changes"
            echo(f'note: the {where} names {name}: "{command}" {then}', err=True)
