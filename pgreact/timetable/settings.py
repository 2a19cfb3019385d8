"""The settings of a schedule, in the configuration and on the command line."""

import datetime
import json
import re
import zoneinfo
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core.core_schema import ValidationInfo

from pgreact.section import Between, Duration, JsonDict, JsonList, Retention, Section, TaskName, Time

ScheduleName = Annotated[str, Field(pattern=r"^[^\x00]{1,200}$")]
SCHEDULE_NAME_RULE = "a schedule's name has 1 to 200 characters, none of them NUL"
WAYS = ("every", "cron", "at", "solar", "rrule")  # to recur; a schedule has exactly one

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class ScheduleSettings(Section):
    """The settings of one schedule, a key for each column; missing keys have the column's default.

    Cron, rrule, solar, time zone, lane and options are checked by the database.
    """

    task: TaskName = Field(description="the Celery task")
    args: JsonList = Field(default=[], description="arguments of the task")
    kwargs: JsonDict = Field(default={}, description="keyword arguments of the task")
    # before the times: the validator reads them in this zone
    timezone: str = Field(default="UTC", min_length=1)
    every: Annotated[Duration, Between("100ms", "36500d")] | None = None
    cron: str | None = Field(default=None, min_length=1)
    cron_and: bool = False
    at: Time | None = None
    solar: str | None = Field(default=None, min_length=1)
    rrule: str | None = Field(default=None, min_length=1)
    anchor: Time | None = None
    enabled: bool = Field(
        default=True, description="occurrences that are due while it is false are not made up for"
    )
    start_at: Time | None = Field(default=None, description="no occurrence before this time")
    end_at: Time | None = Field(default=None, description="no occurrence after this time")
    max_runs: int | None = Field(
        default=None, ge=1, lt=2**63, description="ends the schedule after this many runs"
    )
    jitter: Annotated[Duration, Between("0s", "31d")] = 0.0
    misfire: Literal["coalesce", "skip", "all"] = "coalesce"
    grace: Annotated[Duration, Between("0s", "3650d")] = 60.0
    catch_up: int = Field(default=100, ge=1, le=10_000)
    overlap: bool = True
    delivery: Literal["queue", "direct"] = "queue"
    lane: str | None = Field(default=None, min_length=1)
    priority: int = Field(
        default=0, ge=-(2**31), lt=2**31, description="of its jobs, within their lane; higher goes first"
    )
    max_attempts: int = Field(
        default=1, ge=1, lt=2**31, description="how many attempts of each of its jobs may fail"
    )
    options: JsonDict = {}
    expires: Annotated[Duration, Between("0.001ms", "3650d")] | None = None
    retention: Retention = None
    description: str = Field(default="", description="free text")

    @field_validator("at", "anchor", "start_at", "end_at")
    @classmethod
    def _in_zone(cls, moment: datetime.datetime | None, info: ValidationInfo) -> datetime.datetime | None:
        if moment is None:
            return None
        if moment.tzinfo is None:
            name = info.data.get("timezone", "UTC")
            try:
                zone = zoneinfo.ZoneInfo(name)
            except (KeyError, ValueError, OSError):
                raise ValueError(
                    f'{moment} has no offset, and the time zone "{name}" does not exist'
                ) from None
            moment = moment.replace(tzinfo=zone)
            if moment.utcoffset() != moment.replace(fold=1).utcoffset():
                raise ValueError(
                    f"clocks change in {name} then: {moment:%Y-%m-%d %H:%M:%S} occurs twice or never; "
                    "add the offset, like +01:00"
                )
        try:
            return moment.astimezone(datetime.UTC)
        except OverflowError:
            raise ValueError(f"{moment} is beyond the calendar") from None

    @model_validator(mode="after")
    def _checked(self) -> Self:
        ways = [way for way in WAYS if getattr(self, way) is not None]
        if len(ways) != 1:
            said = f"recurs in {len(ways)} ways ({', '.join(ways)})" if ways else "does not recur"
            raise ValueError(f"{said}: set exactly one of every, cron, at, solar and rrule")
        if _NUL.search(json.dumps(self.entry())):
            raise ValueError("contains a NUL character, which PostgreSQL cannot store")
        return self

    def entry(self) -> dict[str, Any]:
        """Return the keys that were written, in canonical form, ready for JSON; durations in seconds."""
        return self.model_dump(mode="json", exclude_unset=True)
