"""``pgreact schedule import``: import the entries of another scheduler."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgreact.cli.support import Load, SuggestingGroup, echo
from pgreact.errors import ConfigError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from pgreact.timetable.importers.skipped import Skipped

    # commands import what they need when they run, so that help is quick
    from pgreact.timetable.importers.upsert import Connection, Report

    Rows = list[dict[str, Any] | Skipped]

_Command = TypeVar("_Command", bound=Callable[..., object])


@dataclasses.dataclass(frozen=True)
class _Choices:
    """The options that all importers have."""

    delivery: str
    disabled: bool
    dry_run: bool
    strict: bool
    as_json: bool


def _common(command: _Command) -> _Command:
    """Add the options that become a command's ``_Choices``."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
        click.option("--strict", is_flag=True, help="Exit with 1 if an entry was skipped."),
        click.option("--dry-run", is_flag=True, help="Print the report and write nothing."),
        click.option(
            "--disabled",
            is_flag=True,
            help="Import all as disabled; import again without it to enable them.",
        ),
        click.option(
            "--delivery",
            type=click.Choice(["queue", "direct"]),
            default="queue",
            show_default=True,
            help="queue: enqueue jobs; direct: send messages, as Beat does.",
        ),
    ):
        command = option(command)
    return command


@click.group(name="import", cls=SuggestingGroup)
def importing() -> None:
    """Import the entries of another scheduler, with their last runs. Import again to update them.

    A schedule resumes from its last run: what fell due since then is fired once. Edits made here stay until
    the entry itself changes in its source.

    \b
    Example:
      pgreact schedule import django --from postgresql:///shop --dry-run
    """


@importing.command()
@click.option(
    "--state",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Beat's state file, celerybeat-schedule, for the last runs. It is unpickled: trust its author.",
)
@_common
@click.pass_obj
def beat(load: Load, /, state: Path | None, **choices: Any) -> None:
    """Import the application's beat_schedule.

    \b
    Example:
      pgreact -A proj schedule import beat --state celerybeat-schedule
    """
    from pgreact.broker.publisher import open_app
    from pgreact.postgres.connect import connect
    from pgreact.timetable.importers import beat as importer

    settings = load()
    if settings.app is None:
        raise ConfigError('no application: set "app" in pgreact.toml, or give -A proj')
    rows = importer.read(open_app(settings.app, settings.broker), state)
    with connect(settings.dsn) as connection:
        _write(connection, rows, _Choices(**choices))


@importing.command()
@click.option(
    "--from", "source", metavar="DSN", help="The database with django-celery-beat's tables; default: --dsn."
)
@click.option("--schema", metavar="SCHEMA", help="Schema of the tables; default: by search_path.")
@click.option(
    "--dump",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Read the output of manage.py dumpdata django_celery_beat instead: for MySQL, SQLite, old versions.",
)
@click.option("--timezone", metavar="ZONE", help="Django's TIME_ZONE, for crontabs and times without a zone.")
@_common
@click.pass_obj
def django(
    load: Load,
    /,
    source: str | None,
    schema: str | None,
    dump: Path | None,
    timezone: str | None,
    **choices: Any,
) -> None:
    """Import django-celery-beat's tables. Needs neither Django nor the application.

    \b
    Example:
      pgreact schedule import django --from postgresql:///shop --disabled
      python manage.py dumpdata django_celery_beat > beat.json
      pgreact schedule import django --dump beat.json
    """
    from pgreact.postgres.connect import connect
    from pgreact.timetable.importers import django as importer
    from pgreact.timetable.importers import django_dump

    settings = load()
    zone = None if timezone is None else _zone(timezone)
    if dump is not None:
        if source is not None or schema is not None:
            raise click.UsageError("--dump excludes --from and --schema")
        rows = django_dump.read(dump, zone)
    else:
        if source is not None:
            importer.refuse_other_databases(source)
        with connect(settings.dsn if source is None else source) as connection:
            rows = importer.read(connection, schema, zone)
    with connect(settings.dsn) as connection:
        _write(connection, rows, _Choices(**choices))


@importing.command()
@click.option("--redis", "url", metavar="URL", help="redis://localhost:6379/0; default: redbeat_redis_url.")
@click.option(
    "--redis-options",
    "options",
    metavar="JSON",
    help="Sentinels, cluster and others; default: redbeat_redis_options.",
)
@click.option(
    "--prefix", metavar="TEXT", help="Prefix of the keys; default: redbeat_key_prefix, else redbeat:."
)
@click.option(
    "--timezone", metavar="ZONE", help="Time zone of crontabs; default: the application's, else UTC."
)
@_common
@click.pass_obj
def redbeat(
    load: Load,
    /,
    url: str | None,
    options: str | None,
    prefix: str | None,
    timezone: str | None,
    **choices: Any,
) -> None:
    """Import RedBeat's entries from Redis, Sentinel or a cluster. Does not need RedBeat.

    \b
    Example:
      pgreact -A proj schedule import redbeat
      pgreact schedule import redbeat --redis redis://localhost:6379/0
      pgreact schedule import redbeat --redis redis-sentinel:// \\
        --redis-options '{"sentinels": [["sentinel-1", 26379]], "service_name": "main"}'
    """
    from pgreact.postgres.connect import connect
    from pgreact.timetable.importers import redbeat as importer
    from pgreact.timetable.importers.redbeat_redis import place_of

    settings = load()
    if settings.app is None and url is None:
        raise ConfigError("no Redis: give --redis, or -A proj for the application's redbeat_redis_url")
    app = _in_zone(settings.app, timezone)
    rows = importer.read(place_of(app, url, _object("--redis-options", options), prefix), app)
    with connect(settings.dsn) as connection:
        _write(connection, rows, _Choices(**choices))


def _object(option: str, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"{text} is not JSON: {error}", param_hint=option) from None
    if not isinstance(value, dict):
        raise click.BadParameter(f"{text} is not a JSON object", param_hint=option)
    return value


def _in_zone(name: str | None, timezone: str | None) -> Any:
    from pgreact.broker.publisher import open_app

    app = open_app(name, None if name else "memory://")
    if timezone is not None:
        app.conf.update(timezone=_zone(timezone))
    return app


def _zone(name: str) -> "ZoneInfo":
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:  # no such zone is a KeyError, and a directory an OSError
        raise ConfigError(f'no time zone "{name}": write an IANA name like Europe/Paris') from error


def _write(connection: "Connection", rows: "Rows", choices: _Choices) -> None:
    from pgreact.timetable.importers.skipped import Skipped
    from pgreact.timetable.importers.upsert import write

    def chosen(row: dict[str, Any]) -> dict[str, Any]:
        more: dict[str, Any] = {"delivery": choices.delivery} if choices.delivery != "queue" else {}
        if choices.disabled and row.get("enabled", True):
            more |= {
                "enabled": False,
                "held": True,
            }  # by the import: "shadow --disabled" includes it, and not what its source disabled
        return {**row, **more}

    with connection.transaction(force_rollback=choices.dry_run):
        report = write(connection, [row if isinstance(row, Skipped) else chosen(row) for row in rows], "sql")
    _print(report, choices)
    if choices.strict and report.skipped:
        sys.exit(1)


def _print(report: "Report", choices: _Choices) -> None:
    if choices.as_json:
        echo(json.dumps(dataclasses.asdict(report), indent=2, ensure_ascii=False))
        return
    for sign, names in (("+", report.added), ("~", report.changed)):
        for name in names:
            echo(f"{sign} {_shown(name)}")
    for entry in report.skipped:
        echo(f"! {_shown(entry.name)}: {entry.reason}")
    counts = ((name, len(getattr(report, name))) for name in ("added", "changed", "unchanged"))
    said = ", ".join(f"{count} {name}" for name, count in counts)
    echo(f"{said}, {len(report.skipped)} skipped{'; nothing was written' * choices.dry_run}")


def _shown(name: str) -> str:
    return name if name.isprintable() else repr(name)
