"""The counts and times of a route's dispatches, for metrics."""

import dataclasses

from pgreact.histogram import Histogram

# Why a sweep looks; see pgreact.wakeup.sweep.
SWEEP_REASONS = ("elected", "added", "opened", "resumed", "backstop")


@dataclasses.dataclass(slots=True)
class RouteMeasures:
    """The dispatches of one route since this process started, in all its terms.

    Attributes:
        signals: Of any source: notifications, polls, sweeps, and timers of the queue.
        published: Dispatches whose message the broker confirmed.
        claimed: Dispatches of the queue's route that claimed, with or without jobs.
        failed: Dispatches that the broker did not confirm, or whose claim failed.
        wait: From the first signal of a dispatch until the broker confirmed its messages.
        publish: From the publish until the broker confirmed it.
        sweep_finds: By reason: dispatches that a sweep alone caused, and that published something.
    """

    signals: int = 0
    published: int = 0
    claimed: int = 0
    failed: int = 0
    wait: Histogram = dataclasses.field(default_factory=Histogram)
    publish: Histogram = dataclasses.field(default_factory=Histogram)
    sweep_finds: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(SWEEP_REASONS, 0))
