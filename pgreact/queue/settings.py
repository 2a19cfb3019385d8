"""The sections ``[queue]``, ``[lanes.NAME]`` and ``[[outbox]]`` of the configuration."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field

from pgreact.quantities import parse_optional
from pgreact.section import (
    Between,
    Canary,
    Duration,
    Limit,
    Rate,
    Retention,
    Section,
    StartWithin,
    TaskName,
    Tasks,
)
from pgreact.wakeup.settings import Event, Watch

LaneName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,255}$")]  # a Celery queue's name
BundleSize = Annotated[
    Annotated[int, Field(ge=1, le=1000)] | None,
    BeforeValidator(lambda value: None if value == "auto" else value),
]
LANE_NAME_RULE = "a lane's name has 1 to 255 characters, none of them a control character"


class QueueSettings(Section):
    """Section ``[queue]``: the whole queue. A key that is not set leaves the database as it is."""

    max_in_progress: Limit = None
    lease: Annotated[Duration, Between("1s", "1d")] = 60.0
    retention: Retention = None
    dead_retention: Retention = None
    start_within: StartWithin = 7 * 86400.0
    canary: Canary = None
    canary_queue: Annotated[LaneName | None, BeforeValidator(parse_optional)] = None


class LaneSettings(Section):
    """Section ``[lanes.NAME]``: one lane. A key that is not set leaves the database as it is."""

    max_in_progress: Limit = None
    max_unstarted: int = Field(default=200, ge=1, lt=2**31)
    max_lost: int = Field(default=3, ge=0, lt=2**31)
    weight: int = Field(default=1, ge=1, le=1000)
    rate: Rate = None
    burst: int = Field(default=1, ge=1, lt=2**31)
    paused: bool = Field(default=False, description="no further job of the lane is claimed")
    bundle: BundleSize = Field(
        default=None,
        description="jobs of a message at most, where they were measured to be short; auto: 100",
    )
    tasks: Tasks = None


class Outbox(Watch):
    """Entry of ``[[outbox]]``: changes of one table, each of which enqueues a job."""

    on: tuple[Event, ...] = Field(
        default=("insert", "update", "delete"), min_length=1, description="the changes that enqueue a job"
    )
    enqueue: TaskName = Field(description="the task, which gets table, operation and key")
    lane: LaneName | None = Field(
        default=None,
        description="the lane of its jobs; by default that of the Celery queue the task is routed to",
    )

    def is_attached(self, row: Mapping[str, Any], event: str) -> bool:
        """Return whether a row of ``queue_outbox`` attaches an event as this entry does: its lane, too."""
        return super().is_attached(row, event) and bool(row["lane"] == self.lane)


class QueueSections(NamedTuple):
    """The sections of the queue."""

    queue: QueueSettings = QueueSettings()
    lanes: Mapping[str, LaneSettings] = {}
    outbox: tuple[Outbox, ...] = ()
