"""The sections ``[queue]``, ``[lanes.NAME]`` and ``[[outbox]]`` of the configuration."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from pgreact.section import Duration, Limit, Rate, Retention, Section, StartWithin, Tasks, between
from pgreact.wakeup.settings import Event, Watch

LaneName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,255}$")]  # a Celery queue's name
LANE_NAME_RULE = "a lane's name has 1 to 255 characters, none of them a control character"


class QueueSettings(Section):
    """Section ``[queue]``: the whole queue. A key that is not set leaves the database as it is."""

    max_in_progress: Limit = None
    lease: Annotated[Duration, between("1s", "1d")] = 60.0
    retention: Retention = None
    dead_retention: Retention = None
    start_within: StartWithin = 7 * 86400.0


class LaneSettings(Section):
    """Section ``[lanes.NAME]``: one lane. A key that is not set leaves the database as it is."""

    max_in_progress: Limit = None
    max_unstarted: int = Field(default=200, ge=1, lt=2**31)
    max_lost: int = Field(default=3, ge=0, lt=2**31)
    weight: int = Field(default=1, ge=1, le=1000)
    rate: Rate = None
    burst: int = Field(default=1, ge=1, lt=2**31)
    paused: bool = False
    tasks: Tasks = None


class Outbox(Watch):
    """Entry of ``[[outbox]]``: changes of one table, each of which enqueues a job."""

    on: tuple[Event, ...] = Field(default=("insert", "update", "delete"), min_length=1)
    enqueue: str = Field(min_length=1, max_length=255)
    lane: LaneName | None = None

    def is_attached(self, row: Mapping[str, Any], event: str) -> bool:
        """Return whether a row of ``queue_outbox`` attaches an event as this entry does: its lane, too."""
        return super().is_attached(row, event) and bool(row["lane"] == self.lane)


class QueueSections(NamedTuple):
    """The sections of the queue."""

    queue: QueueSettings = QueueSettings()
    lanes: Mapping[str, LaneSettings] = {}
    outbox: tuple[Outbox, ...] = ()
