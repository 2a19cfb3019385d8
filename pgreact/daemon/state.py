"""The state that a daemon shows to probes and metrics; each part of the daemon writes its own."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

from pgreact.clock import Clock
from pgreact.dispatch.measures import RouteMeasures
from pgreact.queue.measures import QueueMeasures
from pgreact.timetable.measures import TimetableMeasures


class RouteReading(NamedTuple):
    """A route of the leader at this moment."""

    name: str
    measures: RouteMeasures
    dirty_s: float  # since when signals are pending; 0: none is
    gate_closed: bool


class Hearing(Protocol):
    """The listener, as far as metrics show it."""

    @property
    def hears(self) -> bool:
        """Whether notifications arrive."""
        ...

    @property
    def probe_s(self) -> float | None:
        """The round trip of the last probe, in seconds."""
        ...


@dataclasses.dataclass
class DaemonState:
    """The state of one daemon, and what it counted since it started.

    Attributes:
        clock: Measures.
        ticked_at: When the daemon last proved that it goes on, by the monotonic clock.
        role: ``None``: it connects.
        hearing: ``None``: it has no sessions.
        routes: Reads the routes; ``None``: it does not lead.
        elections: How often it was elected.
        route_measures: By the name of the route.
        queue: Of its claims.
        timetable: Of its firings.
    """

    clock: Clock
    ticked_at: float
    role: Literal["leader", "standby"] | None = None
    hearing: Hearing | None = None
    routes: Callable[[], Sequence[RouteReading]] | None = None
    elections: int = 0
    route_measures: dict[str, RouteMeasures] = dataclasses.field(default_factory=dict)
    queue: QueueMeasures = dataclasses.field(default_factory=QueueMeasures)
    timetable: TimetableMeasures = dataclasses.field(default_factory=TimetableMeasures)

    def tick(self) -> None:
        """Take note that the daemon goes on."""
        self.ticked_at = self.clock.monotonic()
