"""Operations of Alembic: ``op.pgreact_upgrade()``, ``op.attach_route()`` and the others."""

from collections.abc import Sequence
from typing import Any

from alembic.operations import MigrateOperation, Operations
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from pgreact.alembic import statements
from pgreact.alembic.attachment import TableAttachment, TableName, Target, attachment
from pgreact.queue.attachment import EVENTS, OUTBOX_EVENTS, alter_route


@Operations.register_operation("pgreact_upgrade")
class UpgradeOp(MigrateOperation):
    """Bring schema ``pgreact`` up to the installed version.

    Attributes:
        first: Its downgrade removes the schema, since no earlier revision has made it.
    """

    def __init__(self, *, first: bool = False) -> None:
        self.first = first

    @classmethod
    def pgreact_upgrade(cls, operations: Operations) -> None:
        """Bring schema ``pgreact`` up to the installed version: missing migrations, changed functions.

        Idempotent, in Alembic's own transaction. A database that ``pgreact apply`` has set up is left as it
        is where it is up to date.

        Raises:
            CommandError: A newer pgreact has been there, the schema is not pgreact's, or a right is missing.
        """
        operations.invoke(cls())

    def reverse(self) -> MigrateOperation:
        """Return what the downgrade does."""
        return UninstallOp() if self.first else StayOp()

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` shows."""
        return ("pgreact_upgrade",)


class StayOp(MigrateOperation):
    """The downgrade of a later ``pgreact_upgrade``: nothing, since pgreact's migrations go forward only."""

    def reverse(self) -> MigrateOperation:
        """Return the upgrade."""
        return UpgradeOp()

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` shows."""
        return ("pgreact_stay",)


@Operations.register_operation("pgreact_uninstall")
class UninstallOp(MigrateOperation):
    """Remove schema ``pgreact`` with all that it has."""

    @classmethod
    def pgreact_uninstall(cls, operations: Operations) -> None:
        """Remove schema ``pgreact``, its jobs and schedules, and its triggers on the users' tables."""
        operations.invoke(cls())

    def reverse(self) -> MigrateOperation:
        """Return the upgrade."""
        return UpgradeOp(first=True)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` shows."""
        return ("pgreact_uninstall",)


@Operations.register_operation("attach_route")
@Operations.register_operation("attach_outbox")
class AttachOp(MigrateOperation):
    """Attach events of a table to a route or a task.

    Attributes:
        attachment: What to attach.
        repair: A migration before has attached it, and its trigger is lost: the downgrade leaves it there.
    """

    def __init__(self, attachment: TableAttachment, *, repair: bool = False) -> None:
        self.attachment = attachment
        self.repair = repair

    @classmethod
    def attach_route(
        cls,
        operations: Operations,
        table: str,
        route: str,
        task: str | None = None,
        on: Sequence[str] = (),
        when: str | None = None,
        changed: Sequence[str] | None = None,
        always: bool = False,
        schema: str | None = None,
    ) -> None:
        """Let changes of a table signal a route. A second call with the same arguments changes nothing.

        Args:
            operations: Alembic's own.
            table: The table's name, not quoted.
            route: The route's name.
            task: The task of the route, which is created if it is missing. An existing route keeps its
                settings; another task is an error, unless no table is attached to it.
            on: Of ``insert``, ``update``, ``delete`` and ``truncate``.
            when: A condition in SQL, with ``new`` and ``old``.
            changed: Names of columns, of which an update must change one.
            always: Signal also for rows that logical replication applies.
            schema: The table's schema; by default, ``search_path`` decides.
        """
        name = TableName(schema, table)
        given = {"task": task, "on": on, "when": when, "changed": changed, "always": always}
        operations.invoke(cls(attachment(name, Target("route", route), **given)))

    @classmethod
    def attach_outbox(
        cls,
        operations: Operations,
        table: str,
        enqueue: str,
        lane: str | None = None,
        on: Sequence[str] = OUTBOX_EVENTS,
        when: str | None = None,
        changed: Sequence[str] | None = None,
        always: bool = False,
        schema: str | None = None,
    ) -> None:
        """Let changes of a table enqueue jobs. A second call with the same arguments changes nothing.

        Args:
            operations: Alembic's own.
            table: The table's name, not quoted.
            enqueue: The name of the task.
            lane: The lane of the jobs; a missing one is created, without limits.
            on: Of ``insert``, ``update``, ``delete`` and ``truncate``.
            when: A condition in SQL, with ``new`` and ``old``.
            changed: Names of columns, of which an update must change one.
            always: Enqueue also for rows that logical replication applies.
            schema: The table's schema; by default, ``search_path`` decides.
        """
        name = TableName(schema, table)
        given = {"lane": lane, "on": on, "when": when, "changed": changed, "always": always}
        operations.invoke(cls(attachment(name, Target("outbox", enqueue), **given)))

    def reverse(self) -> MigrateOperation:
        """Return what the downgrade does."""
        return AttachOp(self.attachment, repair=True) if self.repair else DetachOp(self.attachment)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` shows."""
        return (f"attach_{self.attachment.target.kind}", *_shown(self.attachment))


@Operations.register_operation("detach_route")
@Operations.register_operation("detach_outbox")
class DetachOp(MigrateOperation):
    """Detach events of a table from a route or a task.

    Attributes:
        attachment: What is attached, so that the downgrade can attach it again.
    """

    def __init__(self, attachment: TableAttachment) -> None:
        self.attachment = attachment

    @classmethod
    def detach_route(
        cls,
        operations: Operations,
        table: str,
        route: str,
        task: str | None = None,
        on: Sequence[str] = EVENTS,
        schema: str | None = None,
    ) -> None:
        """Let changes of a table no longer signal a route.

        Args:
            operations: Alembic's own.
            table: The table's name, not quoted.
            route: The route's name.
            task: Given, the route is removed, too, if it calls this task, watches no other table and is not
                of ``pgreact.toml``. Otherwise it stays, and its sweeps go on.
            on: The events; by default, all.
            schema: The table's schema; by default, ``search_path`` decides.
        """
        operations.invoke(cls(attachment(TableName(schema, table), Target("route", route), on=on, task=task)))

    @classmethod
    def detach_outbox(
        cls,
        operations: Operations,
        table: str,
        enqueue: str,
        on: Sequence[str] = EVENTS,
        schema: str | None = None,
    ) -> None:
        """Let changes of a table no longer enqueue a task.

        Args:
            operations: Alembic's own.
            table: The table's name, not quoted.
            enqueue: The name of the task.
            on: The events; by default, all.
            schema: The table's schema; by default, ``search_path`` decides.
        """
        operations.invoke(cls(attachment(TableName(schema, table), Target("outbox", enqueue), on=on)))

    def reverse(self) -> MigrateOperation:
        """Return what the downgrade does."""
        return AttachOp(self.attachment)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` shows."""
        return (f"detach_{self.attachment.target.kind}", *_shown(self.attachment))


@Operations.register_operation("alter_route")
class AlterRouteOp(MigrateOperation):
    """Give a route another task."""

    def __init__(self, route: str, task: str, existing_task: str | None = None) -> None:
        self.route = route
        self.task = task
        self.existing_task = existing_task

    @classmethod
    def alter_route(
        cls, operations: Operations, route: str, task: str, existing_task: str | None = None
    ) -> None:
        """Give a route another task.

        Args:
            operations: Alembic's own.
            route: The route's name.
            task: The name of the task.
            existing_task: The name before, for the downgrade.
        """
        operations.invoke(cls(route, task, existing_task))

    def reverse(self) -> MigrateOperation:
        """Return what the downgrade does."""
        if self.existing_task is None:
            raise NotImplementedError("alter_route without existing_task cannot be reversed")
        return AlterRouteOp(self.route, self.existing_task, self.task)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` shows."""
        return ("alter_route", self.route, self.existing_task, self.task)


@Operations.implementation_for(UpgradeOp)
def _upgrade(operations: Operations, _operation: UpgradeOp) -> None:
    try:
        _execute(operations, statements.upgrade())
    except DBAPIError as error:  # which shows the whole statement, of 300 kB
        message, _, _ = str(error.orig).partition("\nCONTEXT:")
        raise CommandError(f"op.pgreact_upgrade(): {message}") from None


@Operations.implementation_for(StayOp)
def _stay(_operations: Operations, _operation: StayOp) -> None:
    """Do nothing."""


@Operations.implementation_for(UninstallOp)
def _uninstall(operations: Operations, _operation: UninstallOp) -> None:
    _execute(operations, statements.uninstall())


@Operations.implementation_for(AttachOp)
def _attach(operations: Operations, operation: AttachOp) -> None:
    found = operation.attachment
    _execute(operations, found.what.attach(_table(operations, found.table), found.lane))


@Operations.implementation_for(DetachOp)
def _detach(operations: Operations, operation: DetachOp) -> None:
    found = operation.attachment
    _execute(operations, found.what.detach(_table(operations, found.table), strict=True))
    if (tidy := found.what.tidy()) is not None:
        _execute(operations, tidy)


@Operations.implementation_for(AlterRouteOp)
def _alter_route(operations: Operations, operation: AlterRouteOp) -> None:
    _execute(operations, alter_route(operation.route, operation.task))


def _execute(operations: Operations, statement: str) -> None:
    """Execute a statement as it is, or print it: ``%`` and ``:`` are no parameters."""
    context = operations.get_context()
    if context.dialect.name != "postgresql":
        raise CommandError(
            f"pgreact needs PostgreSQL, and this migration runs on {context.dialect.name}: "
            'skip its operations there, by "if op.get_context().dialect.name == ..."'
        )
    if context.as_sql:
        context.impl.static_output(f"{statement};")
    else:
        operations.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True}).close()


def _table(operations: Operations, table: TableName) -> str:
    """Return the name in SQL, with the schema that the connection's ``schema_translate_map`` has for it."""
    if not operations.get_context().as_sql:
        known = operations.get_bind().get_execution_options().get("schema_translate_map") or {}
        table = table._replace(schema=known.get(table.schema, table.schema))
    return table.quoted


def _shown(attachment: TableAttachment) -> tuple[Any, ...]:
    return (str(attachment.table), attachment.target.name, attachment.on)
