"""Django's system checks of what models declare, and of the triggers that it makes."""

import importlib.util
import sysconfig
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.core.management.base import CommandError
from django.db import DatabaseError, connections, router
from django.db.migrations.loader import MigrationLoader
from django.db.models import Model

from pgreact.django import attaching, conf
from pgreact.django.constraints import Outbox, WatchedBy
from pgreact.django.declarations import declared
from pgreact.django.schema import has_schema, is_complete, session
from pgreact.errors import ConfigError
from pgreact.postgres.change import rows
from pgreact.postgres.queries import query
from pgreact.queue.attachment import OutboxAttachment, RouteAttachment

_Declaration = tuple[type[Model], WatchedBy | Outbox]


@register(Tags.models)
def check_declarations(
    app_configs: Sequence[AppConfig] | None = None,  # noqa: ARG001
    **_: Any,
) -> list[CheckMessage]:
    """Check what ``watch`` and ``outbox`` declare, without a database."""
    try:
        conf.alias()
    except ConfigError:
        return []  # another check's error
    found = [*_tenant_apps()]
    for model, constraint in declared(apps):
        found += [*_migrations(model, constraint), *_fields(model, constraint), *_settings(model, constraint)]
        if not router.allow_migrate_model(conf.alias(), model):
            found += [*_elsewhere(model)]
    found += _overlaps([*declared(apps)])
    return found


@register(Tags.database)
def check_triggers(
    app_configs: Sequence[AppConfig] | None = None,  # noqa: ARG001
    databases: Sequence[str] | None = None,
    **_: Any,
) -> list[CheckMessage]:
    """Check that the database has the declared triggers, once it has the schema."""
    try:
        if not any(has_schema(alias) for alias in databases or ()):
            return []
        connection = connections[conf.alias()]
        if not is_complete(connection):
            return []
    except (CommandError, DatabaseError):
        return []  # another check's error
    routes = rows(session(connection), query("trigger_health"))
    outboxes = rows(session(connection), query("queue_outbox"))
    found: list[CheckMessage] = []
    for model, constraint in declared(apps):
        with connection.cursor() as cursor:
            name = connection.ops.quote_name(model._meta.db_table)
            cursor.execute("select to_regclass(%s)::oid::bigint", [name])
            [relation] = cursor.fetchone()
        if relation is None or not router.allow_migrate_model(connection.alias, model):
            continue
        attachment = constraint.attachment
        states = {
            row["event"]: row["trigger"]
            for row in (routes if isinstance(attachment, RouteAttachment) else outboxes)
            if row["relation"] == relation and row.get("route", row.get("task")) == attachment.target
        }
        wrong = [f"{event}: {states.get(event, 'not attached')}" for event in attachment.on]
        if wrong := [line for line in wrong if not line.endswith(": ok")]:
            found.append(
                CheckWarning(
                    f"{attachment.title}: {', '.join(wrong)}",
                    hint='"manage.py makemigrations" and "manage.py migrate" attach it.',
                    obj=model,
                    id="pgreact.W201",
                )
            )
    return found


def _tenant_apps() -> Iterator[CheckMessage]:
    listed = {"pgreact.django", "pgreact.django.apps.PgreactConfig"}
    if listed & {*getattr(django_settings, "TENANT_APPS", ())}:
        yield Error(
            "TENANT_APPS has pgreact.django, whose schema exists once in a database.",
            hint="Name it in SHARED_APPS alone; the tenants' tables signal the same routes.",
            id="pgreact.E206",
        )


def _migrations(model: type[Model], constraint: WatchedBy | Outbox) -> Iterator[CheckMessage]:
    """Refuse a model whose migrations are in another package, where ``makemigrations`` would write."""
    module, _ = MigrationLoader.migrations_module(model._meta.app_label)
    spec = None if module is None else _spec(module.rpartition(".")[0])
    folder = Path((spec and spec.origin) or "").resolve()
    if folder.parts and any(folder.is_relative_to(place) for place in _installed()):
        yield Error(
            f"{constraint.attachment.title}: the migrations of {model._meta.app_label} are in an installed "
            "package, where makemigrations would write one.",
            hint=f'Attach "{model._meta.label}" by an operation of pgreact.django.operations in a migration '
            "of an app of your own.",
            obj=model,
            id="pgreact.E201",
        )


def _installed() -> set[Path]:
    return {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}


def _spec(module: str) -> Any:
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None


def _fields(model: type[Model], constraint: WatchedBy | Outbox) -> Iterator[CheckMessage]:
    for name, field in attaching.named_fields(constraint.attachment, model).items():
        if field is None:
            yield Error(
                f'{constraint.attachment.title}: the table has no field "{name}"'
                f"{attaching.field_hint(model, name)}.",
                obj=model,
                id="pgreact.E202",
            )


def _elsewhere(model: type[Model]) -> Iterator[CheckMessage]:
    for alias in connections:
        if alias != conf.alias() and router.allow_migrate_model(alias, model):
            yield Error(f"{attaching.apart(model, alias)}.", obj=model, id="pgreact.E203")


def _settings(model: type[Model], constraint: WatchedBy | Outbox) -> Iterator[CheckMessage]:
    """Refuse what the setting ``PGREACT`` says otherwise, or too."""
    attachment, table = constraint.attachment, model._meta.db_table
    try:
        data = conf.given().data
    except ConfigError:
        return  # another check's error
    if isinstance(attachment, RouteAttachment):
        task = attaching.configured(attachment)
        if task and attachment.task and task != attachment.task:
            yield Error(
                f"{attachment.title} calls {attachment.task} here, and {task} in settings.PGREACT.",
                hint="Name the task in one place.",
                obj=model,
                id="pgreact.E204",
            )
        entries = _part(_part(data.get("routes"), attachment.route), "tables")
    else:
        entries = [e for e in data.get("outbox", ()) if _part(e, "enqueue") == attachment.enqueue]
    names = [_part(entry, "table") for entry in entries if entry] if isinstance(entries, list | tuple) else []
    if {table, f"public.{table}", f'"{table}"'} & {name for name in names if isinstance(name, str)}:
        yield Error(
            f"{attachment.title}: settings.PGREACT names {table}, too.",
            hint="Declare it on the model, whose migrations follow renames, or in the settings: not in both.",
            obj=model,
            id="pgreact.E205",
        )


def _part(value: Any, key: str) -> Any:
    return value.get(key, {}) if isinstance(value, dict) else {}


def _overlaps(declarations: list[_Declaration]) -> Iterator[CheckMessage]:
    counts = Counter(
        (model, type(constraint.attachment), constraint.attachment.target, event)
        for model, constraint in declarations
        for event in constraint.attachment.on
    )
    for (model, kind, target, event), count in counts.items():
        if count > 1:
            what = "outbox" if kind is OutboxAttachment else "route"
            yield Error(
                f'{what} "{target}": {event} is declared {count} times.', obj=model, id="pgreact.E207"
            )
