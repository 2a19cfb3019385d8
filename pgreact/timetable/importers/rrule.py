"""Convert a ``dateutil`` rule to RFC 5545, or to an interval."""

import datetime
import zoneinfo
from collections.abc import Iterable, Iterator
from typing import Any

from pgreact.timetable.zones import zone_name

_FREQUENCIES = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY")
_SHORT = {"MINUTELY": 60, "SECONDLY": 1}  # seconds
_STEADY = {"WEEKLY", "DAILY", "HOURLY"}  # of equal length in each zone whose clocks do not change
_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_LISTS = (
    "bysetpos",
    "bymonth",
    "bymonthday",
    "byyearday",
    "byeaster",
    "byweekno",
    "byweekday",
    "byhour",
    "byminute",
    "bysecond",
)


class Rule(dict[str, Any]):
    """The arguments of ``dateutil.rrule.rrule``, by name; ``dtstart`` with its time zone."""

    def columns(self) -> dict[str, Any]:
        """Return the rule as columns of ``pgreact.schedule``.

        Returns:
            ``rrule``, ``every`` (seconds) or ``at``, with the columns that belong to it.

        Raises:
            ValueError: No column can express it.
        """
        start = self.get("dtstart")
        if not isinstance(start, datetime.datetime) or start.tzinfo is None:
            raise ValueError("its rrule has no dtstart with a time zone")
        frequency = self["freq"]
        frequency = _FREQUENCIES[frequency] if isinstance(frequency, int) else str(frequency).upper()
        interval = self.get("interval") or 1
        if frequency in _SHORT:
            return self._every(start, frequency, interval * _SHORT[frequency])
        zone = zone_name(start.tzinfo)
        if zone is None and frequency in _STEADY and not self._lists():
            zone, start = "UTC", start.astimezone(datetime.UTC)  # it is the same everywhere
        if zone is None:
            raise ValueError(
                f"its rrule has the offset {start:%z}, which no time zone keeps: save it again with a "
                "dtstart "
                "in UTC"
            )
        if start.tzinfo is not None and start.tzinfo.utcoffset(None) is not None:
            # keeps the time of day, whatever the zone's offset was then
            start = start.replace(tzinfo=zoneinfo.ZoneInfo(zone))
        rrule = ";".join(self._parts(frequency, interval))
        return {"rrule": rrule, "anchor": start.isoformat(), "timezone": zone}

    def _every(self, start: datetime.datetime, frequency: str, seconds: int) -> dict[str, Any]:
        ends = [self["until"]] if self.get("until") is not None else []
        if self.get("count") is not None:
            ends.append(start + datetime.timedelta(seconds=seconds * (self["count"] - 1)))
        if lists := self._lists():
            also = " and end_at" if ends else ""
            raise ValueError(
                f"its rrule with FREQ={frequency} has {', '.join(lists)}: use cron{also} instead"
            )
        # the start is the first occurrence; an anchor alone is none
        columns = {"every": seconds, "anchor": start.isoformat(), "start_at": start.isoformat()}
        if not ends:
            return columns
        end = min(ends)
        if end < start:
            raise ValueError("its rrule ends before its dtstart")
        if end < start + datetime.timedelta(seconds=seconds):
            return {"at": start.isoformat()}
        return {**columns, "end_at": end.isoformat()}

    def _lists(self) -> list[str]:
        return [name for name in _LISTS if self.get(name) is not None]

    def _parts(self, frequency: str, interval: int) -> Iterator[str]:
        yield f"FREQ={frequency}"
        if interval != 1:
            yield f"INTERVAL={interval}"
        if self.get("wkst") is not None:
            yield f"WKST={_day(self['wkst'])}"
        if self.get("count") is not None:
            yield f"COUNT={self['count']}"
        if self.get("until") is not None:
            yield f"UNTIL={self['until'].astimezone(datetime.UTC):%Y%m%dT%H%M%SZ}"
        for name in _LISTS:
            value = self.get(name)
            if value is None:
                continue
            values = value if isinstance(value, Iterable) else [value]
            if name == "byweekday":
                yield f"BYDAY={','.join(map(_day, values))}"
            else:
                yield f"{name.upper()}={','.join(map(str, values))}"


def _day(value: Any) -> str:
    number, nth = (value, None) if isinstance(value, int) else (value.weekday, value.n)
    return f"{nth or ''}{_DAYS[number]}"
