"""Attachments of tables by migrations, as SQL: to a route, or to a task that an outbox enqueues.

``pgreact apply`` attaches what the configuration names (``origin`` is ``config``). These statements are for
the migrations of an application, whose transaction they join. What they attach has the origin ``sql``, so
``apply`` leaves it alone.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import TypeAdapter, ValidationError

from pgreact.errors import ConfigError
from pgreact.postgres.statements import do
from pgreact.queue.settings import Outbox
from pgreact.section import TaskName, explain
from pgreact.wakeup.settings import ROUTE_NAME_RULE, RouteName, Watch

EVENTS = ("insert", "update", "delete", "truncate")
OUTBOX_EVENTS = ("insert", "update", "delete")  # by default
_SEVERAL = ("on", "changed")


@dataclasses.dataclass(frozen=True)
class RouteAttachment:
    """Changes of a table that signal a route.

    Raises:
        ConfigError: An event or a name is not one, or the arguments contradict each other.
    """

    kind: ClassVar[Literal["route"]] = "route"

    route: str
    on: tuple[str, ...]
    task: str | None = None
    when: str | None = None
    changed: tuple[str, ...] | None = None
    always: bool = False

    def __post_init__(self) -> None:
        try:
            TypeAdapter(RouteName).validate_python(self.route)
        except ValidationError:
            raise ConfigError(f'route "{self.route}": {ROUTE_NAME_RULE}') from None
        try:
            TypeAdapter(TaskName | None).validate_python(self.task)
        except ValidationError:
            raise ConfigError(f"{self.title}: task is {self.task!r}, not the name of a task") from None
        _check(self.title, Watch, on=self.on, when=self.when, changed=self.changed, always=self.always)

    @property
    def title(self) -> str:
        """The name in messages."""
        return f'route "{self.route}"'

    @property
    def target(self) -> str:
        """The name that tells attachments of one table apart."""
        return self.route

    @property
    def calls(self) -> str | None:
        """The task, if it is known."""
        return self.task

    def attach(self, table: str, configured: str | None = None) -> str:
        """Return the statement that attaches the table; a second run changes nothing.

        A missing route is created if its task is known. A route that calls another task is an error, unless
        no table is attached to it.

        Args:
            table: The table's name in SQL, quoted where needed.
            configured: The task of the configuration, for a missing route whose task is not given.
        """
        return _statement(
            "attach_route",
            table,
            self,
            route=self.route,
            task=self.task or configured,
            strict=self.task is not None,
        )

    def detach(self, table: str, *, strict: bool = False) -> str:
        """Return the statement that detaches the table.

        Args:
            table: The table's name in SQL, quoted where needed.
            strict: It is an error if none of these changes is attached.
        """
        return _statement("detach_route", table, self, route=self.route, strict=strict)

    def tidy(self) -> str | None:
        """Return the statement that removes a route that :meth:`attach` made and no table uses; or none."""
        if self.task is None:
            return None
        return do("remove_unused_route", route=self.route, task=self.task)


@dataclasses.dataclass(frozen=True)
class OutboxAttachment:
    """Changes of a table, each of which enqueues a job.

    Raises:
        ConfigError: An event or a name is not one, or the arguments contradict each other.
    """

    kind: ClassVar[Literal["outbox"]] = "outbox"

    enqueue: str
    on: tuple[str, ...] = OUTBOX_EVENTS
    lane: str | None = None
    when: str | None = None
    changed: tuple[str, ...] | None = None
    always: bool = False

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        _check(self.title, Outbox, **given)

    @property
    def title(self) -> str:
        """The name in messages."""
        return f'outbox "{self.enqueue}"'

    @property
    def target(self) -> str:
        """The name that tells attachments of one table apart."""
        return self.enqueue

    @property
    def calls(self) -> str:
        """The task."""
        return self.enqueue

    def attach(self, table: str, create: str | None = None) -> str:
        """Return the statement that attaches the table; a second run changes nothing.

        Args:
            table: The table's name in SQL, quoted where needed.
            create: The lane, if it may be missing in the database: it is created, without limits.
        """
        return _statement("attach_outbox", table, self, task=self.enqueue, lane=self.lane, create=create)

    def detach(self, table: str, *, strict: bool = False) -> str:
        """Return the statement that detaches the table.

        Args:
            table: The table's name in SQL, quoted where needed.
            strict: It is an error if none of these changes is attached.
        """
        return _statement("detach_outbox", table, self, task=self.enqueue, strict=strict)

    def tidy(self) -> None:
        """Return nothing: detaching leaves no object behind."""


Attachment = RouteAttachment | OutboxAttachment


def made(kind: type[Attachment], arguments: Mapping[str, Any]) -> Attachment:
    """Return an attachment of arguments as they are written: a single event or column may stand alone.

    Args:
        kind: The class.
        arguments: Its arguments by name.

    Raises:
        ConfigError: An event or a name is not one, or the arguments contradict each other.
        TypeError: An argument is unknown or missing.
    """
    return kind(**{key: _words(value) if key in _SEVERAL else value for key, value in arguments.items()})


def arguments(attachment: Attachment) -> dict[str, Any]:
    """Return the arguments of an attachment that are not the default, by name."""
    fields = dataclasses.fields(attachment)
    given = {field.name: (getattr(attachment, field.name), field.default) for field in fields}
    return {name: value for name, (value, default) in given.items() if value != default}


def alter_route(route: str, task: str) -> str:
    """Return the statement that gives a route another task.

    Args:
        route: The route's name. A missing one is an error.
        task: The name of the task.
    """
    return do("alter_route", route=route, task=task)


def forget_dropped(*, routes: bool) -> str:
    """Return the statement that forgets tables that were dropped, with what migrations attached to them.

    Args:
        routes: Also remove the routes, made in SQL, that have lost their last table by this.
    """
    return do("forget_dropped", routes=routes)


def _check(title: str, section: type[Watch], **given: Any) -> None:
    try:
        section.model_validate({"table": "t", **given})
    except ValidationError as error:
        lines = []
        for detail in error.errors():
            key = ".".join(map(str, detail["loc"]))
            lines.append(f"{title}: {f'{key}: ' if key else ''}{explain(detail)}")
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def _statement(name: str, table: str, attachment: Attachment, **parts: Any) -> str:
    changed = attachment.changed
    return do(
        name,
        table=table,
        events=list(attachment.on),
        condition=attachment.when,
        always=attachment.always,
        changed=None if changed is None else list(changed),
        **parts,
    )


def _words(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value
