"""How an attachment meets a model: names of fields become columns, and the model lives beside the schema."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.core.management.base import CommandError
from django.db import router
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.ddl_references import Statement, TableColumns
from django.db.models import Field, Model
from psycopg import sql

from pgreact.django import conf
from pgreact.django.schema import ensure, has_schema
from pgreact.errors import nearest
from pgreact.queue.attachment import Attachment, OutboxAttachment

# strings and comments, in which no column is named; a column of the new or the old row; other quoted names
_TOKEN = re.compile(
    r"""'(?:[^']|'')*' | --[^\n]* | /\*.*?\*/
        | \b(?P<row>new|old)\s*\.\s*(?: "(?P<quoted>(?:[^"]|"")+)" | (?P<name>\w+) )
        | "(?:[^"]|"")*" """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_SYSTEM = {"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}


def named_fields(attachment: Attachment, model: type[Model]) -> "dict[str, Field[Any, Any] | None]":
    """Return the fields that an attachment names, by the given name; ``None``: the table has no such field.

    Args:
        attachment: Names fields, or columns, in ``changed`` and ``when``.
        model: The model of the table.
    """
    found = (_name(token) for token in _TOKEN.finditer(attachment.when or "") if token["row"])
    names = [*(attachment.changed or ()), *(name for name in found if name not in _SYSTEM)]
    return {name: _field(model, name) for name in names}


def resolved(attachment: Attachment, model: type[Model]) -> Attachment:
    """Return an attachment that names columns, not fields.

    Args:
        attachment: Names fields, or columns, in ``changed`` and ``when``.
        model: The model of the table.

    Raises:
        FieldDoesNotExist: ``changed`` names no field of the model's table.
    """
    fields = named_fields(attachment, model)

    def column(name: str) -> str:
        field = fields[name]
        if field is None:
            raise FieldDoesNotExist(
                f'{model._meta.label}: {attachment.title}: no field "{name}"{field_hint(model, name)}'
            )
        return str(field.column)

    def replacement(token: re.Match[str]) -> str:
        field = fields.get(_name(token)) if token["row"] else None
        if field is None or field.column == _name(token):
            return token[0]
        return f"{token['row']}.{sql.Identifier(str(field.column)).as_string()}"

    changed = None if attachment.changed is None else tuple(map(column, attachment.changed))
    when = None if attachment.when is None else _TOKEN.sub(replacement, attachment.when)
    return dataclasses.replace(attachment, changed=changed, when=when)


def field_hint(model: type[Model], name: str) -> str:
    """Return the nearest field of a model's own table, for an error."""
    return nearest(name, [field.name for field in model._meta.local_concrete_fields])


def lives_here(schema_editor: BaseDatabaseSchemaEditor, model: type[Model]) -> bool:
    """Return whether a model's table is to be attached in the migration's database.

    Args:
        schema_editor: That of the migration, which creates the model's table.
        model: The model, as the migrations have it.

    Raises:
        CommandError: The model lives in another database than pgreact's schema.
    """
    alias = schema_editor.connection.alias
    if has_schema(alias):
        return True
    if not router.allow_migrate_model(conf.alias(), model):
        raise CommandError(apart(model, alias))
    return False


def apart(model: type[Model], alias: str) -> str:
    """Return the error of a model that lives in another database than pgreact's schema."""
    return (
        f'{model._meta.label} is in the database "{alias}", and pgreact\'s schema in "{conf.alias()}": a '
        f'trigger needs both in one; set PGREACT["DATABASE"] to "{alias}", or move the model by a router'
    )


def attach(schema_editor: BaseDatabaseSchemaEditor, model: type[Model], attachment: Attachment) -> Statement:
    """Return the statement that attaches a model's table; it follows renames while it is deferred.

    Args:
        schema_editor: That of the migration.
        model: The model, as the migrations have it.
        attachment: What to attach.
    """
    ensure(schema_editor)
    found = resolved(attachment, model)
    return Statement("%(attach)s", attach=_Attach(model._meta.db_table, found, schema_editor.quote_name))


def detach(
    schema_editor: BaseDatabaseSchemaEditor, table: str, attachment: Attachment, *, strict: bool = False
) -> str:
    """Return the statement that detaches a table.

    A route that no table uses then is removed at the end of the migration, which may attach it again.

    Args:
        schema_editor: That of the migration.
        table: The table's name in SQL.
        attachment: What to detach.
        strict: It is an error if none of the changes is attached.
    """
    deferred = schema_editor.deferred_sql
    deferred[:] = [
        statement
        for statement in deferred
        if not (isinstance(statement, Statement) and _is_of(statement.parts.get("attach"), table, attachment))
    ]
    if (tidy := attachment.tidy()) is not None and tidy not in deferred:
        deferred.append(tidy)
    return attachment.detach(table, strict=strict)


def configured(attachment: Attachment) -> str | None:
    """Return what the setting ``PGREACT`` has of an attachment and a migration may find missing.

    The setting is applied after the migrations.

    Args:
        attachment: To a route: its task is returned. To a task: the lane.
    """
    data = conf.given().data
    if isinstance(attachment, OutboxAttachment):
        return attachment.lane if attachment.lane in (data.get("lanes") or ()) else None
    route = (data.get("routes") or {}).get(attachment.route)
    return route.get("task") if isinstance(route, dict) else None


def _is_of(part: object, table: str, attachment: Attachment) -> bool:
    return (
        isinstance(part, _Attach)
        and part.quote_name(part.table) == table
        and (type(part.attachment), part.attachment.target, part.attachment.on)
        == (type(attachment), attachment.target, attachment.on)
    )


def _field(model: type[Model], name: str) -> "Field[Any, Any] | None":
    fields = model._meta.local_concrete_fields
    named = [field for field in fields if name in {field.name, field.attname}]
    return next(iter([*named, *(field for field in fields if field.column == name)]), None)


def _name(token: re.Match[str]) -> str:
    """Return the column that a token names: one that is not quoted is folded to lower case, as in SQL."""
    return token["quoted"].replace('""', '"') if token["quoted"] else str(token["name"] or "").lower()


class _Attach(TableColumns):
    """The part of a statement that Django tells of renamed tables and columns."""

    def __init__(self, table: str, attachment: Attachment, quote_name: Callable[[str], str]) -> None:
        super().__init__(table, list(attachment.changed or ()))
        self.attachment = attachment
        self.quote_name = quote_name

    def __str__(self) -> str:
        changed = tuple(self.columns) or None
        attachment = dataclasses.replace(self.attachment, changed=changed)
        return attachment.attach(self.quote_name(self.table), configured(attachment))
