"""Operations that attach tables: those without a model, and those of models in other packages.

The first argument is a model, ``"shop.Order"``, if ``shop`` is an app of the project. Otherwise it is the
name of a table as SQL has it: quoted where needed, with its schema or sought along ``search_path``.
"""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from django.apps import apps
from django.core.management.base import CommandError
from django.db import router
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation, OperationCategory
from django.db.migrations.operations.fields import FieldOperation
from django.db.migrations.operations.models import ModelOperation
from django.db.migrations.state import ProjectState
from django.db.models import Model

from pgreact.django import attaching
from pgreact.django.schema import ensure, has_schema
from pgreact.errors import ConfigError
from pgreact.queue.attachment import EVENTS, Attachment, OutboxAttachment, RouteAttachment, made

_Names = str | Sequence[str]


class _Operation(Operation):
    """An operation on one table."""

    verb: ClassVar[str]
    kind: ClassVar[type[Attachment]]

    reduces_to_sql = True

    def __init__(self, table_or_model: str, **given: Any) -> None:
        self.table_or_model = table_or_model
        try:
            self.attachment: Attachment = made(
                self.kind, {key: value for key, value in given.items() if value is not None}
            )
        except ConfigError as error:
            raise ConfigError(f"{type(self).__name__} of {table_or_model}: {error}") from None

    @property
    def _label(self) -> tuple[str, str] | None:
        """The app and the name of the model, or none."""
        app, _, name = self.table_or_model.partition(".")
        known = {config.label for config in apps.get_app_configs()}
        return (app, name.lower()) if app in known and re.fullmatch(r"\w+", name) else None

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Change nothing: the models of the project do not show triggers."""

    def _attach(self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, state: ProjectState) -> None:
        if self._applies(app_label, schema_editor, state):
            model = self._model(state)
            if model is None:
                ensure(schema_editor)
                configured = attaching.configured(self.attachment)
                schema_editor.execute(self.attachment.attach(self.table_or_model, configured), None)
            else:
                schema_editor.execute(attaching.attach(schema_editor, model, self.attachment), None)

    def _detach(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, state: ProjectState, *, strict: bool
    ) -> None:
        if self._applies(app_label, schema_editor, state):
            model = self._model(state)
            table = self.table_or_model if model is None else schema_editor.quote_name(model._meta.db_table)
            statement = attaching.detach(schema_editor, table, self.attachment, strict=strict)
            schema_editor.execute(statement, None)

    def _applies(self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, state: ProjectState) -> bool:
        alias = schema_editor.connection.alias
        model = self._model(state)
        if model is None:
            return bool(router.allow_migrate(alias, app_label)) and has_schema(alias)
        return router.allow_migrate_model(alias, model) and attaching.lives_here(schema_editor, model)

    def _model(self, state: ProjectState) -> type[Model] | None:
        if self._label is None:
            return None
        try:
            return state.apps.get_model(*self._label)
        except LookupError:
            raise CommandError(
                f"{type(self).__name__}: the migrations before this one have no model "
                f"{self.table_or_model}: name the app's migration in dependencies"
            ) from None

    def describe(self) -> str:
        """Return what the operation does."""
        return (
            f"{self.verb} {self.attachment.title}: {', '.join(self.attachment.on)} on {self.table_or_model}"
        )

    @property
    def migration_name_fragment(self) -> str:
        """The fragment of a migration's file name."""
        words = f"{self.verb}_{self.attachment.target}_{self.table_or_model.replace('.', '_')}"
        return re.sub(r"\W+", "_", words).strip("_").lower()

    def references_model(self, name: str, app_label: str) -> bool:
        """Return whether the operation may be about a model; a table's name may be any model's."""
        return self._label in {None, (app_label, name.lower())}

    def reduce(self, operation: Operation, app_label: str) -> bool | list[Operation]:
        """Return what is left of this operation and a later one: nothing if that one undoes it."""
        if self._is_undone_by(operation):
            return []
        if found := super().reduce(operation, app_label):
            return found
        return (
            self._label is not None
            and isinstance(operation, ModelOperation | FieldOperation)
            and not operation.references_model(self._label[1], self._label[0])
        )

    def _is_undone_by(self, operation: Operation) -> bool:
        return (
            isinstance(self, AttachRoute | AttachOutbox)
            and isinstance(operation, DetachRoute | DetachOutbox)
            and self.kind is operation.kind
            and (self._label or self.table_or_model) == (operation._label or operation.table_or_model)
            and self.attachment.target == operation.attachment.target
            and {*self.attachment.on} <= {*operation.attachment.on}
        )


class _AttachOperation(_Operation):
    verb = "Attach"
    category = OperationCategory.ADDITION

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,  # noqa: ARG002
        to_state: ProjectState,
    ) -> None:
        """Attach the table."""
        self._attach(app_label, schema_editor, to_state)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,  # noqa: ARG002
        to_state: ProjectState,
    ) -> None:
        """Detach the table."""
        self._detach(app_label, schema_editor, to_state, strict=False)


class _DetachOperation(_Operation):
    verb = "Detach"
    category = OperationCategory.REMOVAL

    def __init__(self, table_or_model: str, on: _Names | None, **given: Any) -> None:
        super().__init__(table_or_model, on=EVENTS if on is None else on, **given)
        self._events_known = on is not None

    @property
    def reversible(self) -> bool:  # type: ignore[override]  # a class variable in the stubs, read of instances
        """Whether it can be undone: without ``on`` the events that were attached are not known."""
        return self._events_known

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,  # noqa: ARG002
        to_state: ProjectState,
    ) -> None:
        """Detach the table."""
        self._detach(app_label, schema_editor, to_state, strict=True)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,  # noqa: ARG002
        to_state: ProjectState,
    ) -> None:
        """Attach the table again, with the given arguments."""
        self._attach(app_label, schema_editor, to_state)


class AttachRoute(_AttachOperation):
    """Makes changes of a table signal a route.

    Args:
        table_or_model: A model, ``"shop.Order"``, or a table's name in SQL.
        route: The route's name.
        task: The task that a missing route gets; none: the route exists, or ``settings.PGREACT`` has it.
        on: Events: ``insert``, ``update``, ``delete``, ``truncate``.
        when: A condition in SQL on the columns of the row, or fields of the model.
        changed: Columns, or fields, of which an update must change one.
        always: Signal also for rows that logical replication applies.
    """

    kind = RouteAttachment

    def __init__(
        self,
        table_or_model: str,
        route: str,
        task: str | None = None,
        on: _Names = ("insert", "update", "delete"),
        when: str | None = None,
        changed: _Names | None = None,
        always: bool = False,
    ) -> None:
        super().__init__(
            table_or_model, route=route, task=task, on=on, when=when, changed=changed, always=always
        )


class DetachRoute(_DetachOperation):
    """Undoes :class:`AttachRoute`, and removes the route if no table uses it and ``task`` is given.

    Args:
        table_or_model: As attached.
        route: The route's name.
        task: The route's task.
        on: The events to detach; none: all, and the operation is not reversible.
        when: For the way back.
        changed: For the way back.
        always: For the way back.
    """

    kind = RouteAttachment

    def __init__(
        self,
        table_or_model: str,
        route: str,
        task: str | None = None,
        on: _Names | None = None,
        when: str | None = None,
        changed: _Names | None = None,
        always: bool = False,
    ) -> None:
        super().__init__(
            table_or_model, on, route=route, task=task, when=when, changed=changed, always=always
        )


class AttachOutbox(_AttachOperation):
    """Makes each change of a table enqueue a job.

    Args:
        table_or_model: A model, ``"shop.Order"``, or a table's name in SQL.
        enqueue: The job's task.
        lane: The job's lane; none: that of the task's Celery queue.
        on: Events: ``insert``, ``update``, ``delete``, ``truncate``.
        when: A condition in SQL on the columns of the row, or fields of the model.
        changed: Columns, or fields, of which an update must change one.
        always: Enqueue also for rows that logical replication applies.
    """

    kind = OutboxAttachment

    def __init__(
        self,
        table_or_model: str,
        enqueue: str,
        lane: str | None = None,
        on: _Names = ("insert", "update", "delete"),
        when: str | None = None,
        changed: _Names | None = None,
        always: bool = False,
    ) -> None:
        super().__init__(
            table_or_model, enqueue=enqueue, lane=lane, on=on, when=when, changed=changed, always=always
        )


class DetachOutbox(_DetachOperation):
    """Undoes :class:`AttachOutbox`.

    Args:
        table_or_model: As attached.
        enqueue: The job's task.
        lane: For the way back.
        on: The events to detach; none: all, and the operation is not reversible.
        when: For the way back.
        changed: For the way back.
        always: For the way back.
    """

    kind = OutboxAttachment

    def __init__(
        self,
        table_or_model: str,
        enqueue: str,
        lane: str | None = None,
        on: _Names | None = None,
        when: str | None = None,
        changed: _Names | None = None,
        always: bool = False,
    ) -> None:
        super().__init__(
            table_or_model, on, enqueue=enqueue, lane=lane, when=when, changed=changed, always=always
        )
