"""The command ``pgreact``: its options, and the commands of all parts."""

import asyncio
import datetime
import importlib.util
import json
import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from pgreact import __version__, logs, settings
from pgreact.cli.doctor import doctor
from pgreact.cli.support import DURATION, SuggestingGroup, confirm_deletion, echo
from pgreact.cli.why import why
from pgreact.demo.command import demo
from pgreact.errors import ConfigError, PgreactError, nearest
from pgreact.queue.cli import queue
from pgreact.settings import Settings
from pgreact.timetable.cli import schedule
from pgreact.timetable.importers.cli import importing
from pgreact.timetable.shadow.cli import shadow
from pgreact.web.cli import web

if TYPE_CHECKING:
    from pgreact.postgres.change import Change

Load = Callable[..., Settings]  # passed to each command; reads the configuration
TRACEBACK = "pgreact.traceback"  # in the context's meta: whether an error is printed with its traceback


class _Group(SuggestingGroup):
    """A group that prints a PgreactError as one message, and exits with 2 (ConfigError) or 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PgreactError as error:
            if ctx.meta.get(TRACEBACK):
                traceback.print_exc()
            _fail(error, 2 if isinstance(error, ConfigError) else 1)


def _fail(error: Exception, code: int) -> None:
    for line in str(error).splitlines():
        echo(f"pgreact: {line}", err=True)
    sys.exit(code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pgreact")
@click.option(
    "-c",
    "--config",
    metavar="FILE",
    help="Configuration file; default: PGREACT_CONFIG, else ./pgreact.toml.",
)
@click.option("-A", "--app", metavar="APP", help="Celery application, as for celery -A.")
@click.option("-b", "--broker", metavar="URL", help="Broker URL, instead of that of an application.")
@click.option("--dsn", metavar="DSN", help="PostgreSQL; default: PGREACT_DSN, else libpq's PG* variables.")
@click.pass_context
def main(
    ctx: click.Context, config: str | None, app: str | None, broker: str | None, dsn: str | None
) -> None:
    """A committed change in PostgreSQL becomes one Celery call, at once.

    \b
    Example:
      pgreact apply             # create schema, routes and triggers from pgreact.toml
      pgreact -A proj listen    # run the daemon, as a service on two machines
      pgreact status
    """

    def load(**more: str | None) -> Settings:
        if not (config or os.environ.get("PGREACT_CONFIG")):
            _set_up_django()
        return settings.load(config, overrides={"app": app, "broker": broker, "dsn": dsn, **more})

    ctx.obj = load


def _set_up_django() -> None:
    """Let Django's settings have the configuration, if the environment names them."""
    if os.environ.get("DJANGO_SETTINGS_MODULE") and importlib.util.find_spec("django") is not None:
        from pgreact.django.standalone import set_up

        set_up()


_wait = click.option(
    "--wait",
    default="1m",
    show_default=True,
    type=DURATION,
    help="Retry this long while another transaction holds a lock.",
)


@main.command()
@click.option("--dry-run", is_flag=True, help="Print the plan, try it in a transaction, roll back.")
@click.option("--check", is_flag=True, help="Print the plan, change nothing; exit with 1 if it has steps.")
@click.option("--sql", "as_sql", is_flag=True, help="Print plain SQL for your own migration tool.")
@click.option("--since", default=0, metavar="N", help="With --sql: leave out the first N migrations.")
@click.option("--delta", is_flag=True, help="With --sql: only the steps that the database needs.")
@_wait
@click.option("--take-over", is_flag=True, help="Replace the application that owns the database.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@click.pass_obj
def apply(
    load: Load,
    dry_run: bool,
    check: bool,
    as_sql: bool,
    since: int,
    delta: bool,
    wait: float,
    take_over: bool,
    as_json: bool,
) -> None:
    """Bring the database to the configuration.

    Creates, changes and removes schema, routes, triggers, lanes and schedules. Objects made in SQL stay. A
    second run changes nothing. A route is changed as a whole or not at all. A statement waits at most 200ms
    for a lock, then lets writers pass and retries.

    --dry-run finds steps that fail, and tasks that the application (app) does not have. --check only reads:
    use it in CI. --sql needs no database, except with --delta.

    \b
    Example:
      pgreact -c pgreact.toml apply --dry-run
    """
    from pgreact import apply as plans
    from pgreact.postgres.connect import connect

    if (since or delta) and not as_sql:
        raise click.UsageError(f"{'--since' if since else '--delta'} goes with --sql")
    if sum((dry_run, check, as_sql)) > 1 or (since and delta):
        raise click.UsageError("give one of --dry-run, --check, --sql, --sql --since and --sql --delta")
    loaded = load()
    if as_sql and not delta:
        click.echo(plans.script(loaded, since), nl=False)
        return

    def warn(line: str) -> None:
        echo(line, err=True)

    done: list[Change] = []
    with connect(loaded.dsn) as connection:
        if delta:
            click.echo(plans.delta(connection, loaded, warn), nl=False)
            return
        if check:
            steps = iter(plans.plan(connection, loaded, take_over=take_over))
        elif dry_run:
            steps = iter(plans.dry_run(connection, loaded, warn, take_over=take_over))
        else:
            steps = plans.apply(connection, loaded, wait, warn, take_over=take_over)
        for step in steps:
            done.append(step)
            if not as_json:
                echo(str(step))
    _print_summary(done, as_json, "Nothing to change." if not done else "")
    if dry_run:
        _refuse_unknown_tasks(loaded)
    if check and done:
        sys.exit(1)


def _refuse_unknown_tasks(loaded: Settings) -> None:
    from pgreact.broker.unknown_tasks import unknown_tasks

    if loaded.app is None or not loaded.tasks:
        return
    try:
        unknown = unknown_tasks(loaded.app, loaded.tasks)
    except PgreactError as error:
        echo(f"warning: tasks not checked: {error}", err=True)
        return
    if unknown:
        raise ConfigError("\n".join(f"{loaded.label}: {line}" for line in unknown))


@main.command()
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--sql", "as_sql", is_flag=True, help="Print plain SQL for your own migration tool.")
@_wait
@click.pass_obj
def uninstall(load: Load, yes: bool, as_sql: bool, wait: float) -> None:
    """Remove pgreact from the database.

    Drops its triggers on your tables, and its schema.

    \b
    Example:
      pgreact uninstall --yes
    """
    from pgreact import apply as plans
    from pgreact.postgres.connect import connect

    if as_sql:
        click.echo(plans.uninstall_script(), nl=False)
        return
    loaded = load()
    with connect(loaded.dsn) as connection:
        steps = plans.uninstall_plan(connection)
        if not steps:
            echo("Nothing to remove.")
            return
        if not yes:
            for step in steps:
                echo(str(step))
            confirm_deletion("uninstall", "these objects", loaded.dsn)
        for step in plans.uninstall(connection, wait, lambda line: echo(line, err=True)):
            echo(str(step))


@main.command()
@click.option(
    "--log-format",
    type=click.Choice(["auto", "console", "json"]),
    help="Default: auto, which is console on a terminal and JSON elsewhere.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Lowest level to log; default: info.",
)
@click.option(
    "--http",
    metavar="HOST:PORT",
    help="Serve /metrics, /livez, /readyz, /leader, /standby and /status over HTTP; default: off.",
)
@click.pass_obj
def listen(load: Load, log_format: str | None, log_level: str | None, http: str | None) -> None:
    """Run the daemon.

    It listens for commits and publishes Celery calls. Run two of them: one leads, the other takes over when
    it ends. It logs to standard error. At SIGTERM it hands over and exits with 0. Under systemd use
    Type=notify.

    \b
    Example:
      pgreact -A proj listen --log-format json
    """
    from pgreact.daemon.daemon import listen as run

    loaded = load(log_format=log_format, log_level=log_level, http=http)
    logs.configure(loaded.log_format, loaded.log_level)
    asyncio.run(run(loaded, lambda: _daemon_status(loaded)))


def _daemon_status(loaded: Settings) -> str:
    """Return the JSON of the status, as a daemon reads it: straight from the server, and never for long."""
    from pgreact.cli import status as reader
    from pgreact.postgres.connect import connect

    with connect(loaded.daemon_dsn) as connection, connection.transaction():
        connection.execute("set local statement_timeout = '2s'")
        return reader.as_json(reader.read(connection, loaded))


@main.command()
@click.argument("route")
@click.pass_obj
def signal(load: Load, route: str) -> None:
    """Signal a route by hand.

    The leader dispatches it once, within its window.

    \b
    Example:
      pgreact signal dispatch
    """
    import psycopg

    from pgreact.postgres.connect import connect

    with connect(load().dsn) as connection:
        try:
            connection.execute("select pgreact.signal(%s)", (route,))
        except psycopg.errors.UndefinedObject as error:
            # a role may have the right to signal, and not to read the routes
            hint = re.fullmatch(r"Known routes: (.*)\.", error.diag.message_hint or "")
            known = hint[1].split(", ") if hint else []
            raise ConfigError(f'no route "{route}"{nearest(route, known)}') from error
    echo(f"signalled {route}")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def status(load: Load, as_json: bool) -> None:
    """Show daemons, routes, queue and timetable.

    Prints leader and standbys, each route with its triggers and last dispatch, lanes, and the next schedule.

    Prints the reasons and exits with 1 if something is wrong: no daemon leads; a trigger is missing, or its
    table was replaced; a route or a schedule fails or is overdue; no worker knows a route's task; jobs keep
    dying; or the database differs from the file.

    \b
    Example:
      pgreact status --json
    """
    from pgreact.cli import status as reader
    from pgreact.postgres.connect import connect

    loaded = load()
    with connect(loaded.dsn) as connection:
        found = reader.read(connection, loaded)
    if as_json:
        echo(reader.as_json(found))
    else:
        for line in reader.lines(found, datetime.datetime.now(datetime.UTC)):
            echo(line)
    sys.exit(0 if found["healthy"] else 1)


@main.command()
@click.option("--once", is_flag=True, help="Print one frame and exit, as without a terminal.")
@click.pass_obj
def top(load: Load, once: bool) -> None:
    """Show the cluster live: lanes, routes, dead jobs, events.

    What happens moves the numbers at once; if nothing does, they are read again each 15 s. q or Ctrl-C
    leaves. wait and run: from ready to start, and from there to the end, of attempts settled in the last five
    minutes. Needs the extra: pip install "pgreact[top]".

    \b
    Example:
      pgreact top
      pgreact top --once
    """
    if importlib.util.find_spec("rich") is None:
        raise PgreactError('pgreact top needs rich: pip install "pgreact[top]"')
    from pgreact.cli import top as terminal

    dsn = load().dsn
    if once or not sys.stdout.isatty():
        terminal.once(dsn)
    else:
        terminal.watch(dsn)


def _print_summary(done: list[Any], as_json: bool, text: str) -> None:
    if as_json:
        echo(json.dumps([{"sign": step.sign, "what": step.what} for step in done], indent=2))
    elif text:
        echo(text)


main.add_command(demo)
main.add_command(doctor)
main.add_command(queue)
main.add_command(schedule)
main.add_command(why)
schedule.add_command(importing)
schedule.add_command(shadow)
main.add_command(web)

if __name__ == "__main__":
    main()
