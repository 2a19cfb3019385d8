"""The part of Alembic's autogenerate that compares declarations with the database.

It runs after Alembic's own comparison of tables, and puts its operations around Alembic's:
``pgreact_upgrade`` and detachments first, attachments last. Alembic mirrors that for the downgrade.
"""

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from alembic import util
from alembic.autogenerate import comparators
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import MetaData, Table

from pgreact.alembic.attachment import TableName
from pgreact.alembic.comparison import Models, difference
from pgreact.alembic.declarations import declared
from pgreact.alembic.operations import AlterRouteOp, AttachOp, DetachOp, UpgradeOp
from pgreact.alembic.reading import read
from pgreact.errors import PgreactError

SCHEMA = "pgreact"
_log = logging.getLogger(__name__)
_HAS_PRIORITIES = hasattr(util, "DispatchPriority")  # since 1.18; before, comparators ran as registered
_LAST: Mapping[str, Any] = {"priority": util.DispatchPriority.LAST} if _HAS_PRIORITIES else {}


def leave_out(context: AutogenContext, _upgrade_ops: ops.UpgradeOps, schemas: set[str | None]) -> None:
    """Keep Alembic from reading schema ``pgreact``, with ``include_schemas=True``."""
    if not _has_ours(context):
        schemas.discard(SCHEMA)


if _HAS_PRIORITIES:
    comparators.dispatch_for("schema", priority=util.DispatchPriority.FIRST)(leave_out)


@comparators.dispatch_for("schema", **_LAST)
def compare(context: AutogenContext, upgrade_ops: ops.UpgradeOps, _schemas: object) -> None:
    """Add the operations that bring a database to the declarations.

    Raises:
        CommandError: The declarations contradict each other or ``pgreact.toml``, or a newer pgreact has set
            up the database.
    """
    if (
        context.connection is None
        or context.dialect.name != "postgresql"
        or not context.opts.get(SCHEMA, True)
    ):
        return
    default_schema = context.dialect.default_schema_name
    tables = {_name(table, default_schema): table for table in context.sorted_tables}
    if not _has_ours(context):
        upgrade_ops.ops[:] = [each for each in upgrade_ops.ops if getattr(each, "schema", None) != SCHEMA]
    try:
        state = read(context.connection)
        models = _models(context, tables, upgrade_ops, default_schema)
        found = difference(models, state.attached, state.routes)
    except PgreactError as error:
        raise CommandError(f"pgreact: {error}") from None
    before: list[ops.MigrateOperation] = []
    in_history = _is_in_history(context)
    if not state.current or not in_history:
        _log.info("Detected schema pgreact %s", _what(exists=state.exists, current=state.current))
        before.append(UpgradeOp(first=not state.exists and not in_history))
    for route in found.unknown_routes:
        _log.warning(
            'No route "%s" yet: declare its task, or bring it by "pgreact apply" before this revision', route
        )
    before += [DetachOp(each) for each in found.detach]
    before += [AlterRouteOp(name, new, old) for name, old, new in found.alter_routes]
    after = [AttachOp(each) for each in found.attach] + [AttachOp(each, repair=True) for each in found.repair]
    for each in (*before, *after):
        if isinstance(each, AttachOp | DetachOp):
            _log.info("Detected %s", " ".join(map(str, each.to_diff_tuple()[:3])))
    upgrade_ops.ops[:] = [*before, *upgrade_ops.ops, *after]


def _has_ours(context: AutogenContext) -> bool:
    """Return whether the models have tables in schema ``pgreact``, which is then theirs to compare."""
    return any(table.schema == SCHEMA for table in context.sorted_tables)


def _models(
    context: AutogenContext,
    tables: Mapping[TableName, Table],
    upgrade_ops: ops.UpgradeOps,
    default_schema: str | None,
) -> Models:
    visible = {
        name: table
        for name, table in tables.items()
        if context.run_name_filters(table.name, "table", {"schema_name": name.schema})
        and context.run_object_filters(table, table.name, "table", False, None)
    }
    by_table = {table: name for name, table in visible.items()}
    dropped = set()
    altered: dict[TableName, set[str]] = {}
    for each in _flat(upgrade_ops.ops):
        if isinstance(each, ops.DropTableOp):
            dropped.add(_plain(each.schema, each.table_name, default_schema))
        elif isinstance(each, ops.DropColumnOp) or (
            isinstance(each, ops.AlterColumnOp) and each.modify_type is not None
        ):
            name = _plain(each.schema, each.table_name, default_schema)
            altered.setdefault(name, set()).add(each.column_name)
    return Models(
        declared=[
            dataclasses.replace(attachment, table=by_table[table])
            for metadata in _metadata(context)
            for table, attachment in declared(metadata)
            if table in by_table
        ],
        tables=visible.keys(),
        dropped=dropped,
        altered=altered,
        schema_of=lambda name: visible[name].schema if name in visible else name.schema,
    )


def _is_in_history(context: AutogenContext) -> bool:
    """Return whether a revision upgrades pgreact: a database that ``pgreact apply`` set up has none yet."""
    script: ScriptDirectory | None = context.migration_context.script
    return script is None or any(
        b"pgreact_upgrade" in Path(revision.path).read_bytes() for revision in script.walk_revisions()
    )


def _what(*, exists: bool, current: bool) -> str:
    if not exists:
        return "is missing"
    return "is in no revision" if current else "is older than the package"


def _metadata(context: AutogenContext) -> Sequence[MetaData]:
    given = context.metadata
    if given is None:
        return ()
    return [given] if isinstance(given, MetaData) else given


def _flat(operations: Sequence[ops.MigrateOperation]) -> Iterator[ops.MigrateOperation]:
    for each in operations:
        if isinstance(each, ops.OpContainer):
            yield from _flat(each.ops)
        else:
            yield each


def _name(table: Table, default_schema: str | None) -> TableName:
    return _plain(table.schema, table.name, default_schema)


def _plain(schema: str | None, name: str, default_schema: str | None) -> TableName:
    return TableName(None if schema == default_schema else schema, name)
