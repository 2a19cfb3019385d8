"""pgreact's schema in Django's migrations."""

from collections.abc import Sequence

import psycopg
from django.core.management.base import CommandError
from django.db import router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.transaction import atomic

from pgreact import apply
from pgreact.django import conf
from pgreact.errors import PgreactError
from pgreact.postgres import execution, migrations
from pgreact.postgres.change import Change, Connection

APP = "pgreact"
WAIT = 60.0  # seconds to retry while another transaction holds a lock


def has_schema(alias: str) -> bool:
    """Return whether a database is the one of pgreact's schema.

    Raises:
        CommandError: It is, and it is not PostgreSQL; or ``DATABASES`` lacks the configured alias.
    """
    try:
        if alias != conf.alias():
            return False
        conf.dsn()
    except PgreactError as error:
        raise CommandError(str(error)) from None
    return True


def session(connection: BaseDatabaseWrapper) -> Connection:
    """Return the session of one of Django's connections, which it opens if there is none."""
    connection.ensure_connection()
    found: Connection = connection.connection
    return found


def is_complete(connection: BaseDatabaseWrapper) -> bool:
    """Return whether all numbered migrations have run in a database.

    Raises:
        CommandError: The schema is a newer pgreact's, or not pgreact's.
    """
    return all(step.name == migrations.FUNCTIONS for step in _missing(connection))


def ensure(schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Run what a database lacks of the schema, in the transaction of the running migration.

    A migration that attaches a table may run before pgreact's own, which then only records itself.

    Args:
        schema_editor: That of the migration; one that collects SQL runs nothing.

    Raises:
        CommandError: A router keeps the schema out of this database, the schema is not this pgreact's, or a
            lock was not free in time.
    """
    connection = schema_editor.connection
    if schema_editor.collect_sql or not _missing(connection):
        return
    if not router.allow_migrate(connection.alias, APP):
        raise CommandError(
            f'"{connection.alias}" lacks pgreact\'s schema, or has an older one, and a router keeps the app '
            f'"{APP}" out of it here: run "manage.py migrate {APP}" where the router allows it (with '
            'django-tenants: "manage.py migrate_schemas --shared")'
        )
    with atomic(connection.alias):  # a migration may run without a transaction
        found = session(connection)
        [former] = found.execute("show lock_timeout").fetchall()[0]
        try:
            for _ in execution.execute(found, lambda: _plan(connection), WAIT, lambda _line: None):
                pass
        except PgreactError as error:
            raise CommandError(str(error)) from None
        found.execute("select set_config('lock_timeout', %s, true)", [former])


def _plan(connection: BaseDatabaseWrapper) -> list[Change]:
    return [Change("+", step.title, step.script) for step in _missing(connection)]


def _missing(connection: BaseDatabaseWrapper) -> list[migrations.Migration]:
    try:
        return [step for _, step in migrations.missing(migrations.applied(session(connection)))]
    except psycopg.errors.InsufficientPrivilege as error:
        raise CommandError(
            f'"{connection.alias}": {error.diag.message_primary}: run "manage.py migrate" as the role that '
            "owns pgreact's schema"
        ) from None
    except PgreactError as error:
        raise CommandError(str(error)) from None


class UpgradeSchema(Operation):
    """Runs the migrations of pgreact's schema, those that have run already excepted.

    The names say since which files of ``sql/migrations`` the operation exists: it runs all files that the
    database lacks, and records them, as ``pgreact apply`` does. Backwards, the operation that has the first
    file removes all objects of pgreact; another one changes nothing.
    """

    reduces_to_sql = True

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Change nothing: the schema has no models that Django manages."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,  # noqa: ARG002
        to_state: ProjectState,  # noqa: ARG002
    ) -> None:
        """Run the missing migrations, on the database that is to have the schema."""
        if not self._is_for(app_label, schema_editor):
            return
        if not schema_editor.collect_sql:
            ensure(schema_editor)
            return
        known = migrations.migrations()
        for step in known:
            if step.name in self.names:
                schema_editor.execute(step.script, None)
        if known[-1].name in self.names:  # the functions may need the newest tables
            schema_editor.execute(migrations.functions().script, None)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,  # noqa: ARG002
        to_state: ProjectState,  # noqa: ARG002
    ) -> None:
        """Remove all objects of pgreact, its triggers on tables included."""
        if migrations.migrations()[0].name in self.names and self._is_for(app_label, schema_editor):
            schema_editor.execute(apply.uninstall_script(), None)

    def _is_for(self, app_label: str, schema_editor: BaseDatabaseSchemaEditor) -> bool:
        alias = schema_editor.connection.alias
        return bool(router.allow_migrate(alias, app_label)) and has_schema(alias)

    def describe(self) -> str:
        """Return what the operation does."""
        return f"Run the migrations of pgreact's schema: {', '.join(self.names)}"

    @property
    def migration_name_fragment(self) -> str:
        """The fragment of a migration's file name."""
        return f"schema_{self.names[-1]}"

    def references_model(self, name: str, app_label: str) -> bool:  # noqa: ARG002
        """Return that no model is meant."""
        return False
