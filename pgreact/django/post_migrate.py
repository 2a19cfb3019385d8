"""The steps after ``manage.py migrate``: functions, the setting ``PGREACT``, and missing triggers."""

import sys
from typing import Any, TextIO

import psycopg
from django.apps.registry import Apps
from django.conf import settings as django_settings
from django.core.exceptions import FieldDoesNotExist
from django.core.management.base import CommandError
from django.db import Error, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.models.signals import post_delete

from pgreact import apply, settings
from pgreact.django import attaching, conf
from pgreact.django.declarations import declared
from pgreact.django.schema import APP, WAIT, has_schema, is_complete
from pgreact.errors import ConfigError, PgreactError
from pgreact.postgres.connect import connect
from pgreact.queue.attachment import forget_dropped


def bring_up_to_date(
    *, using: str, verbosity: int, apps: Any = None, plan: Any = None, stdout: TextIO | None = None, **_: Any
) -> None:
    """Answer the signal ``post_migrate``.

    - Forget tables that were dropped.
    - Attach the declared tables again: a trigger may have been dropped by hand, a table renamed.
    - Apply ``settings.PGREACT``, with the functions of the schema, as ``pgreact apply`` does.

    Nothing happens where the schema is not to be: in another database, before pgreact's own migrations have
    run, and after they were undone.

    Args:
        using: The database's alias.
        verbosity: 0 prints nothing.
        apps: The models as the migrations have them now.
        plan: The migrations of the command; none: the signal is that of ``flush``.
        stdout: Gets the lines.

    Raises:
        CommandError: A step failed; one line for each mistake.
    """
    if plan is None or not has_schema(using):
        return
    connection = connections[using]
    allowed = router.allow_migrate(using, APP)
    unmigrated = (
        MigrationLoader.migrations_module(APP)[0] is None
    )  # migrations are switched off, as for tests
    if not is_complete(connection) and not (allowed and unmigrated):
        return
    output = (stdout or sys.stdout) if verbosity else None
    if allowed:
        _apply(connection, output)
    _follow(connection, apps)


def forget_tenant(*, using: str, **_: Any) -> None:
    """Forget the tables of a deleted tenant of django-tenants, whose schema may be dropped."""
    if using == conf.alias() and conf.is_postgres():
        with connections[using].cursor() as cursor:
            cursor.execute(forget_dropped(routes=False))


def watch_tenants() -> None:
    """Let the deletion of a tenant be answered, if the project has tenants."""
    if model := getattr(django_settings, "TENANT_MODEL", None):
        post_delete.connect(forget_tenant, sender=model, dispatch_uid="pgreact.forget_tenant")


def _apply(connection: BaseDatabaseWrapper, output: TextIO | None) -> None:
    if connection.in_atomic_block:
        # its session could not see this transaction, and would wait for its locks
        if output:
            output.write("  pgreact: settings.PGREACT is not applied inside a transaction\n")
        return

    def say(line: str) -> None:
        if output:
            output.write(f"  pgreact: {line}\n")

    try:
        loaded = settings.load(None)
        with connect(conf.dsn()) as session:
            for step in apply.apply(session, loaded, WAIT, say):
                say(str(step))
    except ConfigError as error:
        pending = MigrationExecutor(connection)
        if not pending.migration_plan(pending.loader.graph.leaf_nodes()):
            raise CommandError(str(error)) from None
        for line in str(error).splitlines():
            say(f"not applied while migrations are missing: {line}")
    except PgreactError as error:
        raise CommandError(str(error)) from None


def _follow(connection: BaseDatabaseWrapper, apps: Apps) -> None:
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        cursor.execute(forget_dropped(routes=True))
        for model, constraint in declared(apps):
            table = quote(model._meta.db_table)
            cursor.execute("select to_regclass(%s) is not null", [table])
            if not router.allow_migrate_model(connection.alias, model) or not cursor.fetchone()[0]:
                continue
            try:
                attachment = attaching.resolved(constraint.attachment, model)
                cursor.execute(attachment.attach(table, attaching.configured(attachment)))
            except FieldDoesNotExist as error:
                raise CommandError(str(error)) from None
            except Error as error:
                cause = error.__cause__
                message = cause.diag.message_primary if isinstance(cause, psycopg.Error) else None
                title = f"{model._meta.label}: {constraint.attachment.title}"
                raise CommandError(f"{title}: {message or error}") from None
