"""A route: one row of ``pgreact.route``."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Self

QUEUE_ROUTE = "pgreact.queue"  # the built-in route: its signals make the leader claim jobs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Route:
    """A named tie between watched tables and one Celery task; all times in seconds."""

    id: int
    name: str
    task: str
    window: float
    countdown: float
    expires: float | None
    sweep: float
    single_flight: str
    options: Mapping[str, Any]
    ready: str | None
    gate: str
    gate_poll: float
    gate_close_rate: int
    gate_open_after: float
    origin: str

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Return the route of a row of ``sql/queries/routes.sql``.

        Raises:
            Exception: Its options cannot be read.
        """
        return cls(**{**row, "options": json.loads(row["options"])})

    def changed(self, other: Self) -> list[str]:
        """Return the names of the settings that differ in another version of this route."""
        return [
            field.name
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != getattr(other, field.name)
        ]
