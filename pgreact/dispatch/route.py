"""A route as the daemon knows it: one row of ``pgreact.route``."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Self

QUEUE_ROUTE = "pgreact.queue"  # the built-in route, by which a change of the queue has the leader claim jobs


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
        """Read a row of ``sql/queries/routes.sql``."""
        return cls(**{**row, "options": json.loads(row["options"])})

    def changed(self, other: Self) -> list[str]:
        """Return the names of the settings in which another version of this route differs."""
        return [
            field.name
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != getattr(other, field.name)
        ]
