"""The operations as the text of a migration."""

from typing import Any

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext

from pgreact.alembic.attachment import TableAttachment
from pgreact.alembic.operations import AlterRouteOp, AttachOp, DetachOp, StayOp, UninstallOp, UpgradeOp
from pgreact.queue.attachment import EVENTS, OUTBOX_EVENTS

_IMPORT = "import pgreact.alembic  # noqa: F401 - its operations"
_WIDTH = 84  # of a line, without the indentation of a function's body


@renderers.dispatch_for(UpgradeOp)
def _upgrade(context: AutogenContext, _operation: UpgradeOp) -> str:
    return _call(context, "pgreact_upgrade")


@renderers.dispatch_for(StayOp)
def _stay(_context: AutogenContext, _operation: StayOp) -> str:
    return "pass  # schema pgreact stays as it is: its migrations go forward only"


@renderers.dispatch_for(UninstallOp)
def _uninstall(context: AutogenContext, _operation: UninstallOp) -> list[str]:
    return ["# removes all jobs, schedules and their history", _call(context, "pgreact_uninstall")]


@renderers.dispatch_for(AttachOp)
def _attach(context: AutogenContext, operation: AttachOp) -> str:
    attachment = operation.attachment
    if attachment.target.kind == "route":
        named: dict[str, Any] = {"task": attachment.task, "on": attachment.on}
    else:
        named = {"lane": attachment.lane, "on": None if attachment.on == OUTBOX_EVENTS else attachment.on}
    named |= {
        "when": attachment.what.when,
        "changed": attachment.what.changed,
        "always": attachment.what.always or None,
    }
    return _call_for(context, f"attach_{attachment.target.kind}", attachment, named)


@renderers.dispatch_for(DetachOp)
def _detach(context: AutogenContext, operation: DetachOp) -> str:
    attachment = operation.attachment
    named = {"task": attachment.task, "on": None if attachment.on == EVENTS else attachment.on}
    return _call_for(context, f"detach_{attachment.target.kind}", attachment, named)


@renderers.dispatch_for(AlterRouteOp)
def _alter_route(context: AutogenContext, operation: AlterRouteOp) -> str:
    return _call(
        context, "alter_route", operation.route, task=operation.task, existing_task=operation.existing_task
    )


def _call_for(context: AutogenContext, name: str, attachment: TableAttachment, named: dict[str, Any]) -> str:
    table = attachment.table
    return _call(context, name, str(table.name), attachment.target.name, **named, schema=table.schema)


def _call(context: AutogenContext, name: str, *positional: object, **named: object) -> str:
    """Return a call of an operation, on one line or on one for each argument; ``None`` is left out."""
    context.imports.add(_IMPORT)
    arguments = [repr(value) for value in positional]
    arguments += [f"{key}={value!r}" for key, value in named.items() if value is not None]
    opening = f"{context.opts['alembic_module_prefix'] or ''}{name}("
    line = f"{opening}{', '.join(arguments)})"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([opening, *(f"    {argument}," for argument in arguments), ")"])
