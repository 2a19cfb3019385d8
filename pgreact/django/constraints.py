"""Declarations on models, as constraints: Django's own migrations add, remove and recreate them."""

import hashlib
import re
from typing import Any, ClassVar

from django.db import connections
from django.db.models import Model
from django.db.models.constraints import BaseConstraint

from pgreact.django import attaching, conf
from pgreact.queue.attachment import Attachment, OutboxAttachment, RouteAttachment, arguments, made

LONGEST_NAME = 63


class _Attached(BaseConstraint):
    """A table that is attached: no condition on rows, but the triggers of pgreact.

    In a migration its arguments also have the columns that the triggers read, with their types. So the
    constraint of a column that is renamed, or gets another type, differs in ``makemigrations``: PostgreSQL
    refuses a new type while a trigger reads the column. They come from the model that declares it.
    """

    kind: ClassVar[type[Attachment]]

    def __init__(self, *, name: str, columns: dict[str, str] | None = None, **given: Any) -> None:
        super().__init__(name=name)
        self.attachment: Attachment = made(self.kind, given)
        self.columns = columns or {}
        self.model: type[Model] | None = None  # that declares it; migrations have copies without

    def constraint_sql(self, model: Any, schema_editor: Any) -> Any:  # the stubs want text
        """Attach the table at the end of the migration that creates it."""
        if statement := self.create_sql(model, schema_editor):
            schema_editor.deferred_sql.append(statement)

    def create_sql(self, model: Any, schema_editor: Any) -> Any:  # or a Statement, as of other constraints
        """Return the statement that attaches the table; empty on another database than the schema's."""
        if not attaching.lives_here(schema_editor, model):
            return ""
        return attaching.attach(schema_editor, model, self.attachment)

    def remove_sql(self, model: Any, schema_editor: Any) -> str:
        """Return the statement that detaches the table; empty on another database than the schema's."""
        if not attaching.lives_here(schema_editor, model):
            return ""
        table = schema_editor.quote_name(model._meta.db_table)
        return attaching.detach(schema_editor, table, self.attachment)

    def validate(self, *args: object, **kwargs: object) -> None:
        """Accept every row."""

    def _read_columns(self) -> dict[str, str]:
        """Return the columns that the triggers read, with their types."""
        if self.model is None:
            return self.columns
        fields = [*attaching.named_fields(self.attachment, self.model).values()]
        if isinstance(self.attachment, OutboxAttachment):  # its triggers name the row's key
            fields += [*getattr(self.model._meta, "pk_fields", ())]
        connection = connections[conf.alias()]
        return {str(field.column): field.db_type(connection) or "" for field in fields if field is not None}

    def deconstruct(self) -> tuple[str, tuple[()], dict[str, Any]]:
        """Return path and arguments, for the writer of migrations."""
        kwargs: dict[str, Any] = {"name": self.name, **arguments(self.attachment)}
        if columns := self._read_columns():
            kwargs["columns"] = dict(sorted(columns.items()))
        return f"{type(self).__module__}.{type(self).__qualname__}", (), kwargs

    def __eq__(self, other: object) -> bool:
        """Return whether the other constraint attaches the same."""
        if not isinstance(other, _Attached):
            return NotImplemented
        return self.deconstruct() == other.deconstruct()

    __hash__ = BaseConstraint.__hash__

    def __repr__(self) -> str:
        """Return the constraint as it is written."""
        path, _, kwargs = self.deconstruct()
        return (
            f"<{path.rpartition('.')[2]}: {', '.join(f'{key}={value!r}' for key, value in kwargs.items())}>"
        )


class WatchedBy(_Attached):
    """The changes of the model's table signal a route."""

    kind = RouteAttachment


class Outbox(_Attached):
    """The changes of the model's table enqueue jobs."""

    kind = OutboxAttachment


def name_of(attachment: Attachment, model: type[Model]) -> str:
    """Return the name of a constraint: it tells the attachments of all models of a project apart.

    Args:
        attachment: What is attached.
        model: The model that declares it.
    """
    kind = "watch" if isinstance(attachment, RouteAttachment) else "outbox"
    words = re.sub(r"\W+", "_", f"{kind}_{model._meta.label_lower}_{attachment.target}")
    whole = ".".join((kind, model._meta.label_lower, *attachment.on, attachment.target))
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{words[: LONGEST_NAME - len(digest) - 1]}_{digest}"
