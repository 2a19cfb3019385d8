"""Rules of ``dateutil`` as RFC 5545 writes them."""

import datetime
from collections.abc import Iterable, Iterator
from typing import Any

from pgreact.timetable.zones import zone_name

_FREQUENCIES = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY")
_SHORT = {"MINUTELY": 60, "SECONDLY": 1}  # seconds
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
        """Write it as columns of ``pgreact.schedule``.

        Returns:
            ``rrule``, or ``every`` (seconds) where it is only that; ``anchor``; ``timezone``.

        Raises:
            ValueError: No column can say it.
        """
        start = self.get("dtstart")
        if not isinstance(start, datetime.datetime) or start.tzinfo is None:
            raise ValueError("its rrule has no dtstart with a time zone")
        zone = zone_name(start.tzinfo)
        if zone is None:
            raise ValueError(
                f"its rrule is read at {start:%z} from UTC: write it anew in a time zone that has a name"
            )
        where = {"anchor": start.isoformat(), "timezone": zone}
        frequency = self["freq"]
        frequency = _FREQUENCIES[frequency] if isinstance(frequency, int) else str(frequency).upper()
        interval = self.get("interval") or 1
        if frequency not in _SHORT:
            return {"rrule": ";".join(self._parts(frequency, interval)), **where}
        if any(self.get(name) is not None for name in (*_LISTS, "until", "count")):
            raise ValueError(f"its rrule with FREQ={frequency} says more than a period: write it as cron")
        # its start is its first occurrence, which an anchor alone is not
        return {"every": interval * _SHORT[frequency], **where, "start_at": where["anchor"]}

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
