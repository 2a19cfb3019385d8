"""``pgreact schedule shadow``: compare a live Beat with the timetable."""

import datetime
import json
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from pgreact.cli.support import Load, echo, jsonable
from pgreact.errors import ConfigError, PgreactError
from pgreact.quantities import format_duration, parse_duration

if TYPE_CHECKING:  # what a command needs it imports when it runs, so that help is quick
    from pgreact.cli.support import Configuration
    from pgreact.timetable.shadow.comparison import Difference
    from pgreact.timetable.shadow.watch import Watch


@click.command()
@click.option("--for", "span", metavar="DURATION", help="How long to run: 10m, 1d; default: until Ctrl-C.")
@click.option(
    "--tolerance",
    metavar="DURATION",
    default="2s",
    show_default=True,
    help="Largest deviation that counts as in time.",
)
@click.option(
    "--app-schedule",
    is_flag=True,
    help="Compare with the application's beat_schedule instead of pgreact.schedule.",
)
@click.option("--disabled", is_flag=True, help='Include the schedules that "import --disabled" disabled.')
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one line for each difference.")
@click.pass_obj
def shadow(
    load: Load, /, span: str | None, tolerance: str, app_schedule: bool, disabled: bool, as_json: bool
) -> None:
    """Compare what a live Beat sends with the timetable, and print the differences. Fires nothing.

    Beat's messages are read from Celery's events: its application needs task_send_sent_event = True. Calls
    are matched by task and arguments; intervals are counted from the last message, as Beat does. Exits with
    1 if differences were found.

    \b
    Example:
      pgreact schedule shadow --disabled --for 1d
    """
    from pgreact.broker.publisher import open_app
    from pgreact.timetable.shadow.watch import Watch

    # in the background of a shell, or under nohup, SIGINT is ignored by default
    signal.signal(signal.SIGINT, signal.default_int_handler)
    settings = load()
    seconds = None if span is None else _seconds("--for", span)
    tolerated = datetime.timedelta(seconds=_seconds("--tolerance", tolerance))
    rows = _of_app(settings) if app_schedule else _of_table(settings, disabled)
    watch = Watch(open_app(settings.app, settings.broker), rows, tolerated, lambda line: echo(line, err=True))
    for name, why in watch.comparison.broken.items():
        echo(f"{name} is left out: {why}", err=True)
    began, count = time.monotonic(), {"missed": 0, "late": 0, "extra": 0}
    for difference in watch.run(seconds):
        count[difference.kind] += 1
        echo(json.dumps(_public(difference), default=jsonable) if as_json else _line(difference))
    _sum_up(watch, count, time.monotonic() - began, as_json)
    sys.exit(1 if any(count.values()) else 0)


def _seconds(option: str, text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def _of_app(settings: "Configuration") -> list[dict[str, Any]]:
    from pgreact.broker.publisher import open_app
    from pgreact.timetable.importers import beat
    from pgreact.timetable.importers.skipped import Skipped

    if settings.app is None:
        raise ConfigError('no application: set "app" in pgreact.toml, or give -A proj')
    rows = []
    for row in beat.read(open_app(settings.app, settings.broker)):
        if isinstance(row, Skipped):
            echo(f"{row.name} is left out: {row.reason}", err=True)
        elif row.get("enabled", True):
            rows.append(row)
    return rows


def _of_table(settings: "Configuration", disabled: bool) -> list[dict[str, Any]]:
    from pgreact.postgres.connect import connect
    from pgreact.postgres.queries import query

    with connect(settings.dsn) as connection:
        found = connection.execute(query("shadow_schedules").encode(), {"disabled": disabled}).fetchall()
    if not found:
        raise PgreactError(
            "no schedule to compare with: import some; --disabled includes those that an import disabled"
        )
    return [row for (row,) in found]


def _public(difference: "Difference") -> dict[str, Any]:
    return {
        "kind": difference.kind,
        "schedule": difference.schedule,
        "task": difference.call.task,
        "args": difference.call.args,
        "kwargs": difference.call.kwargs,
        "at": difference.at,
        "late_s": None if difference.late is None else difference.late.total_seconds(),
        "task_id": difference.task_id,
    }


def _line(difference: "Difference") -> str:
    what = f"{difference.at.astimezone():%Y-%m-%d %H:%M:%S%z}  {difference.kind:6}"
    if difference.kind == "extra":
        why = f"{difference.schedule} was not due" if difference.schedule else "no schedule calls it"
        return f"{what}  {difference.call}: sent, but {why}"
    if difference.late is not None:
        late = format_duration(round(difference.late.total_seconds(), 1))
        return f"{what}  {difference.schedule}: sent {late} late"
    return f"{what}  {difference.schedule}: not sent"


def _sum_up(watch: "Watch", count: dict[str, int], seconds: float, as_json: bool) -> None:
    if as_json:
        echo(
            json.dumps(
                {
                    **count,
                    "in_time": watch.comparison.in_time,
                    "unrelated": watch.comparison.unrelated,
                    "seconds": seconds,
                }
            )
        )
    else:
        echo(
            f"in {format_duration(seconds, roughly=True)}: "
            f"{watch.comparison.in_time} in time, {count['late']} late, "
            f"{count['missed']} missed, {count['extra']} sent without being due"
        )
        if watch.comparison.unrelated:
            echo(f"not counted: {watch.comparison.unrelated} calls of processes other than Beat")
    if not watch.received:
        echo(
            "no events received: the application that Beat runs needs task_send_sent_event = True",
            err=True,
        )
