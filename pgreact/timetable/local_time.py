"""Convert the local times at which a schedule recurs to moments.

Where the offset of a zone changes, a local time may not exist (a gap, in spring) or occur twice (in autumn).
As in Debian's cron, and for changes of any size, a schedule is one of:

- **fixed**, such as "at 02:30": each local time counts once. One in a gap is due right after the gap, one
  that occurs twice is due the first time.
- **by the clock**, such as "every 20 minutes": each moment counts whose local time matches. One in a gap is
  never due, one that occurs twice is due twice.
"""

import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

# Returns the first matching local time strictly later, None: never again. Local times are naive datetimes.
LocalTimes = Callable[[datetime], datetime | None]

_SECOND = timedelta(seconds=1)


@functools.lru_cache(maxsize=1024)
def get_zone(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name.

    Raises:
        ValueError: This machine does not know the name.
    """
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise ValueError(
            f'time zone "{name}" is not known here: write an IANA name such as "Europe/Paris"; if it is one, '
            "this machine's time zone data (tzdata) is missing or too old"
        ) from None


def local_time(moment: datetime, zone: ZoneInfo) -> datetime:
    """Return the local time of a moment, in whole seconds."""
    return moment.astimezone(zone).replace(tzinfo=None, microsecond=0, fold=0)


def first(local: datetime, zone: ZoneInfo) -> datetime:
    """Return the first moment of a local time; if it lies in a gap, the end of the gap."""
    early, late = _moments(local, zone)
    return early if early <= late else _change(late, early, zone)


def next_fixed(matching: LocalTimes, zone: ZoneInfo, after: datetime) -> datetime | None:
    """Return the first moment strictly later of the matching local times, each counted once."""
    local = matching(local_time(after, zone))
    while local is not None:
        moment = first(local, zone)
        if moment > after:
            return moment
        local = matching(local)  # in the second pass of a repeated hour: its first pass is over
    return None


def next_by_clock(matching: LocalTimes, zone: ZoneInfo, after: datetime) -> datetime | None:
    """Return the first moment strictly later whose local time matches."""
    here = local_time(after, zone)
    local = matching(here)
    early, late = _moments(here, zone)
    if early <= after < late:
        change = _change(early, late, zone)
        if local is None or first(local, zone) >= change:
            # no match left in this pass: the clocks go back, and local times repeat
            local = matching(local_time(change, zone) - _SECOND)
    while local is not None:
        early, late = _moments(local, zone)
        if early <= late:
            return early if early > after else late
        local = matching(local)  # in a gap
    return None


def _moments(local: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the moments of a local time by the offsets before and after a change nearby.

    Equal: there is no change. Ascending: it occurs twice. Descending: it lies in a gap.
    """
    aware = local.replace(tzinfo=zone)
    return aware.astimezone(UTC), aware.replace(fold=1).astimezone(UTC)


def _change(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment after ``low``, ``high`` at the latest, from which on the offset differs."""
    before = low.astimezone(zone).utcoffset()
    while high - low > _SECOND:
        middle = low + (high - low) // 2 // _SECOND * _SECOND
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high
