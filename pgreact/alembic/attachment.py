"""The changes of one table that signal a route or enqueue a task, as a migration names them."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from psycopg import sql

from pgreact.errors import ConfigError
from pgreact.queue.attachment import Attachment, OutboxAttachment, RouteAttachment, made


class Target(NamedTuple):
    """The effect of changes: signal a route, or enqueue a task."""

    kind: Literal["route", "outbox"]
    name: str  # of the route, or of the task


class TableName(NamedTuple):
    """A table; without a schema, the ``search_path`` decides, as in all of Alembic's operations."""

    schema: str | None
    name: str

    @property
    def quoted(self) -> str:
        """The name in SQL."""
        parts = (self.name,) if self.schema is None else (self.schema, self.name)
        return sql.Identifier(*parts).as_string()

    def __str__(self) -> str:
        """Return the name for messages."""
        return self.name if self.schema is None else f"{self.schema}.{self.name}"


class Terms(NamedTuple):
    """The conditions of one event."""

    lane: str | None
    when: str | None
    changed: frozenset[str] | None
    always: bool


@dataclasses.dataclass(frozen=True)
class TableAttachment:
    """An attachment of one table.

    Attributes:
        table: The table.
        what: What is attached.
    """

    table: TableName
    what: Attachment

    @property
    def target(self) -> Target:
        """The effect of the changes."""
        return Target(self.what.kind, self.what.target)

    @property
    def on(self) -> tuple[str, ...]:
        """The events."""
        return self.what.on

    @property
    def task(self) -> str | None:
        """The task of a route that is to exist with it."""
        return self.what.task if isinstance(self.what, RouteAttachment) else None

    @property
    def lane(self) -> str | None:
        """The lane of the jobs."""
        return self.what.lane if isinstance(self.what, OutboxAttachment) else None

    def with_task(self, task: str | None) -> "TableAttachment":
        """Return it with another task of its route; an outbox has no route."""
        if isinstance(self.what, OutboxAttachment):
            return self
        return dataclasses.replace(self, what=dataclasses.replace(self.what, task=task))

    def terms(self, event: str) -> Terms:
        """Return the conditions of one of its events."""
        given = self.what.changed
        changed = None if given is None or event != "update" else frozenset(given)
        return Terms(self.lane, self.what.when, changed, self.what.always)

    def limited_to(self, events: Sequence[str]) -> "TableAttachment":
        """Return the part of it that concerns these events."""
        on = tuple(event for event in self.on if event in events)
        changed = self.what.changed if "update" in on else None
        return dataclasses.replace(self, what=dataclasses.replace(self.what, on=on, changed=changed))


def attachment(table: TableName, target: Target, **given: Any) -> TableAttachment:
    """Return a checked attachment.

    Args:
        table: The table.
        target: The route, or the task.
        given: The other arguments of the attachment, by name.

    Raises:
        ConfigError: An argument is none that ``[routes.NAME]`` or ``[[outbox]]`` of the configuration takes.
    """
    try:
        if target.kind == "route":
            return TableAttachment(table, made(RouteAttachment, {"route": target.name, **given}))
        return TableAttachment(table, made(OutboxAttachment, {"enqueue": target.name, **given}))
    except ConfigError as error:
        lines = str(error).splitlines()
        raise ConfigError("\n".join(f"table {table}, {line}" for line in lines)) from None
