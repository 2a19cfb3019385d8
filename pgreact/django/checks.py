"""Django's system checks of pgreact: ``manage.py check``, with ``--database`` and ``--deploy`` for some.

Those without these options ask no database. They import the Celery application with the modules of its tasks.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from django.apps import AppConfig, apps
from django.core import checks
from django.db import DatabaseError, connections

from pgreact import settings
from pgreact.django import conf
from pgreact.django.declarations import declared
from pgreact.errors import ConfigError, PgreactError

if TYPE_CHECKING:
    from celery import Celery

TAG = "pgreact"  # manage.py check --tag pgreact
OLDEST = 14  # major version of PostgreSQL
_BEAT = "celery.beat:PersistentScheduler"  # Celery's default
_OTHERS_TIMETABLE = (
    'Run Beat with pgreact\'s timetable, CELERY_BEAT_SCHEDULER = "pgreact", or move its entries: manage.py '
    "pgreact schedule import {}. Delete an entry that only looks for work: a route calls its task after each "
    'commit. If both are to run, SILENCED_SYSTEM_CHECKS = ["pgreact.{}"].'
)


@checks.register(TAG)
def check_setting(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[checks.CheckMessage]:
    """Check ``settings.PGREACT``, its database's kind, the Celery application, and names of tasks."""
    return list(_setting()) if _concerned(app_configs) else []


@checks.register(TAG, deploy=True)
def check_deployment(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[checks.CheckMessage]:
    """Check settings that fit tests only."""
    with contextlib.suppress(PgreactError):  # which check_setting reports
        if _concerned(app_configs) and _application(settings.load(None)).conf.task_always_eager:
            return [
                checks.Warning(
                    "Celery's task_always_eager is set: delay() runs the task in the web process.",
                    hint="Set CELERY_TASK_ALWAYS_EAGER in the settings of tests only.",
                    id="pgreact.W004",
                )
            ]
    return []


@checks.register(TAG, checks.Tags.database)
def check_database(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None, **_: Any
) -> list[checks.CheckMessage]:
    """Check the server's version, and that the tables of routes and outboxes exist."""
    try:
        if not (_concerned(app_configs) and conf.alias() in (databases or ()) and conf.is_postgres()):
            return []
        return list(_database(settings.load(None)))
    except ConfigError:  # which check_setting reports
        return []


def _concerned(app_configs: Sequence[AppConfig] | None) -> bool:
    """Return whether the checks are asked for: all apps, or this one."""
    return app_configs is None or any(config.name == "pgreact.django" for config in app_configs)


def _setting() -> Iterator[checks.CheckMessage]:
    try:
        if not conf.is_postgres():
            yield checks.Error(
                f'The database "{conf.alias()}" is {conf.connection().vendor}, not PostgreSQL.',
                hint='Name the alias of a PostgreSQL database: PGREACT = {"DATABASE": "…"}.',
                id="pgreact.E002",
            )
            return
        loaded = settings.load(None)
    except ConfigError as error:
        for line in str(error).splitlines():
            yield checks.Error(
                line,
                hint="PGREACT takes what pgreact.toml takes: docs/configuration.md lists its keys.",
                id="pgreact.E001",
            )
        return
    if connections.settings[conf.alias()].get("DISABLE_SERVER_SIDE_CURSORS") and loaded.listen_dsn is None:
        yield checks.Warning(
            f'The database "{conf.alias()}" has DISABLE_SERVER_SIDE_CURSORS, as behind a pooler, and PGREACT '
            "has no LISTEN_DSN.",
            hint="The daemon needs sessions of its own, which a pooler in transaction mode cannot give: set "
            'PGREACT["LISTEN_DSN"] to a DSN that leads to PostgreSQL itself.',
            id="pgreact.W003",
        )
    try:
        app = _application(loaded)
        yield from _celery(app, loaded)
    except PgreactError as error:
        yield checks.Error(
            f"{error}.",
            hint='Name the Celery application as for celery -A: PGREACT = {"APP": "shop"}.',
            id="pgreact.E003",
        )


def _application(loaded: settings.Settings) -> "Celery":
    """Return the Celery application.

    Raises:
        PgreactError: There is none, or it cannot be imported.
    """
    from pgreact.broker.publisher import open_app  # slow to import, and a web process makes no checks

    if loaded.app is None:
        raise PgreactError("No Celery application is known: the package of the settings has no module celery")
    return open_app(loaded.app, loaded.broker)


def _celery(app: "Celery", loaded: settings.Settings) -> Iterator[checks.CheckMessage]:
    from pgreact.broker.unknown_tasks import unknown_tasks
    from pgreact.worker.database import databases as set_up

    if app not in set_up:
        yield checks.Error(
            f'The Celery application "{loaded.app}" does not call pgreact.setup: its workers run no jobs.',
            hint="Add pgreact.setup(app) where the application is created.",
            id="pgreact.E004",
        )
    configured = {f"{loaded.label}: {place}": task for place, task in loaded.tasks.items()}
    with _one_run_of_checks():
        unknown = unknown_tasks(str(loaded.app), configured | _declared_tasks())
    for line in unknown:
        yield checks.Error(
            line,
            hint="Use the task's full name, and let the application import its module: "
            "app.autodiscover_tasks().",
            id="pgreact.E005",
        )
    scheduler = str(app.conf.beat_scheduler)
    if scheduler == "pgreact" or scheduler.startswith("pgreact.beat"):
        return
    if apps.is_installed("django_celery_beat") or scheduler != _BEAT:
        other = "django_celery_beat" if scheduler == _BEAT else scheduler
        kind = "redbeat" if "redbeat" in scheduler.lower() else "django"
        yield checks.Warning(
            f"{other} is configured beside pgreact's timetable: Beat fires schedules that pgreact does not "
            "know.",
            hint=_OTHERS_TIMETABLE.format(kind, "W002"),
            id="pgreact.W002",
        )
    elif count := len(app.conf.beat_schedule):
        yield checks.Warning(
            f"Celery's beat_schedule has {count} {'entry' if count == 1 else 'entries'} beside pgreact's "
            "timetable, which only Beat fires.",
            hint=_OTHERS_TIMETABLE.format("beat", "W001"),
            id="pgreact.W001",
        )


def _declared_tasks() -> dict[str, str]:
    """Return the tasks that declarations on models name, by their place."""
    return {
        f"{model._meta.label}: {constraint.attachment.title}": task
        for model, constraint in declared(apps)
        if (task := constraint.attachment.calls) is not None
    }


@contextlib.contextmanager
def _one_run_of_checks() -> Iterator[None]:
    """Keep Celery from running all of Django's checks, of which this is one, before it imports tasks."""
    before = os.environ.get("CELERY_SKIP_CHECKS")
    os.environ["CELERY_SKIP_CHECKS"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CELERY_SKIP_CHECKS"]
        else:
            os.environ["CELERY_SKIP_CHECKS"] = before


def _database(loaded: settings.Settings) -> Iterator[checks.CheckMessage]:
    from pgreact.postgres.change import resolve
    from pgreact.postgres.connect import connect

    try:
        with connect(loaded.dsn) as session:
            found = session.info.server_version // 10000
            if found < OLDEST:
                yield checks.Error(
                    f'The database "{conf.alias()}" is PostgreSQL {found}: pgreact needs {OLDEST} or later.',
                    hint="Upgrade the server, or name another alias of DATABASES as PGREACT['DATABASE'].",
                    id="pgreact.E006",
                )
                return
            if _migrations_are_pending():
                return  # they may make the tables
            places = [
                (f"routes.{name}.tables[{index}]", watch.table)
                for name, route in loaded.routes.items()
                for index, watch in enumerate(route.tables)
            ]
            places += [(f"outbox[{index}]", entry.table) for index, entry in enumerate(loaded.outbox)]
            for place, table in places:
                try:
                    resolve(session, table, f"{loaded.label}: {place}")
                except ConfigError as error:
                    yield checks.Error(
                        f"{error}",
                        hint="Write the table's name in the database (Model._meta.db_table), or make it: "
                        "manage.py makemigrations, manage.py migrate.",
                        id="pgreact.E007",
                    )
    except (PgreactError, DatabaseError) as error:
        yield checks.Error(
            f'The database "{conf.alias()}" cannot be asked: {error}',
            hint=f"See DATABASES['{conf.alias()}'], and whether the server runs.",
            id="pgreact.E008",
        )


def _migrations_are_pending() -> bool:
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(conf.connection())
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))
