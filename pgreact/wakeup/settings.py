"""The sections ``[routes.NAME]`` of the configuration, and the tables that a route watches."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pgreact.section import Between, Duration, JsonDict, Section, TaskName

Event = Literal["insert", "update", "delete", "truncate"]
RouteName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,62}$")]
ROUTE_NAME_RULE = (
    'a route\'s name begins with a letter or "_", and continues with letters, digits, "_", "." and "-", '
    "63 characters at most"
)
_RESERVED_OPTIONS = {
    "countdown": "set the route's own countdown",
    "expires": "set the route's own expires",
    "eta": "set the route's own countdown",
    "task_id": "each dispatch has its own id",
    "retry": "pgreact itself retries, without end",
    "retry_policy": "pgreact itself retries, without end",
    "connection": "pgreact uses its own",
    "producer": "pgreact uses its own",
    "publisher": "pgreact uses its own",
    "add_to_parent": "a dispatch has no parent",
}


class Watch(Section):
    """An entry of a route's ``tables``: the changes of one table that signal the route."""

    table: str = Field(min_length=1, description="the table, with its schema")
    on: tuple[Event, ...] = Field(min_length=1, description="the changes that count")
    when: str | None = Field(
        default=None,
        min_length=1,
        description="a condition in SQL on old and new; types and functions of yours with their schema",
    )
    changed: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(default=None, min_length=1)
    always: bool = False

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if len(set(self.on)) != len(self.on):
            raise ValueError(f"on names an event twice: {', '.join(self.on)}")
        if self.when is not None and "truncate" in self.on:
            raise ValueError(
                '"when" does not apply to a truncate, which has no rows: give it an entry of its own'
            )
        if self.changed is not None and "update" not in self.on:
            raise ValueError('changed names columns that an update must change: it needs "update" in on')
        return self

    def changed_by(self, *events: str) -> list[str] | None:
        """Return the columns of which an update must change one; ``None``: any update counts."""
        return [*self.changed] if self.changed is not None and "update" in events else None

    def is_attached(self, row: Mapping[str, Any], event: str) -> bool:
        """Return whether a row of the database attaches an event as this entry of the file does.

        Args:
            row: Of ``trigger_health`` or ``queue_outbox``.
            event: An event of the entry.
        """
        attached = row["condition"], row["changed"], row["always"], row["trigger"], row["origin"]
        return attached == (self.when, self.changed_by(event), self.always, "ok", "config")


class RouteSettings(Section):
    """A section ``[routes.NAME]``."""

    task: TaskName = Field(description="the Celery task that a dispatch calls")
    window: Annotated[Duration, Between("0s", "1h")] = 0.1
    countdown: Duration = 0.0
    expires: Duration = 15.0
    sweep: Duration = 60.0
    single_flight: Literal["publish", "run"] = "publish"
    gate: Literal["auto", "open", "closed"] = "auto"
    gate_poll: Annotated[Duration, Between("5ms", "10s")] = 0.04
    gate_close_rate: int = Field(default=100, gt=0)
    gate_open_after: Annotated[Duration, Between("100ms", "1h")] = 1.0
    options: JsonDict = {}
    ready: str | None = Field(default=None, min_length=1)
    tables: tuple[Watch, ...] = Field(
        default=(), description="the tables whose changes signal the route; see below"
    )

    @model_validator(mode="after")
    def _checked(self) -> Self:
        for option in self.options:
            if option in _RESERVED_OPTIONS:
                raise ValueError(f"options must not name {option}: {_RESERVED_OPTIONS[option]}")
        if self.single_flight == "run" and not self.expires:
            raise ValueError('single_flight = "run" needs expires: the loss of a message is not reported')
        if 0 < self.sweep < 1:
            raise ValueError('sweep must be 0 (off) or at least "1s": it is a backstop, not a poll')
        return self
