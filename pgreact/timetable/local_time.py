"""Wall time: what the clocks of a time zone show, and when.

Around a change of offset a wall time is shown never (a gap, in spring) or twice (in autumn). Debian's cron
knows two kinds of jobs, and so do we, for changes of any size:

- **fixed**, such as "at 02:30": each wall time counts once. One in a gap is due right after the gap, one that
  is shown twice is due the first time.
- **by the clock**, such as "every 20 minutes": each moment counts at which the clocks show such a time, so
  none in a gap, and twice what is shown twice.
"""

import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

# The first wall time that is meant and strictly later; None: never again. Wall times are naive.
Walls = Callable[[datetime], datetime | None]

_SECOND = timedelta(seconds=1)


@functools.lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name.

    Raises:
        ValueError: There is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise ValueError(
            f'time zone "{name}" is not known here: write an IANA name such as "Europe/Paris"; if it is one, '
            "this machine's time zone data (tzdata) is missing or too old"
        ) from None


def shown(moment: datetime, where: ZoneInfo) -> datetime:
    """Return the wall time at a moment, in whole seconds."""
    return moment.astimezone(where).replace(tzinfo=None, microsecond=0, fold=0)


def first(wall: datetime, where: ZoneInfo) -> datetime:
    """Return when a wall time is shown for the first time; if never, the end of the gap it lies in."""
    early, late = _moments(wall, where)
    return early if early <= late else _change(late, early, where)


def next_fixed(walls: Walls, where: ZoneInfo, after: datetime) -> datetime | None:
    """Return the first moment strictly later that one of the wall times means, each counted once."""
    wall = walls(shown(after, where))
    while wall is not None:
        moment = first(wall, where)
        if moment > after:
            return moment
        wall = walls(wall)  # in the second pass of a repeated hour: this one has been
    return None


def next_by_clock(walls: Walls, where: ZoneInfo, after: datetime) -> datetime | None:
    """Return the first moment strictly later at which the clocks show one of the wall times."""
    here = shown(after, where)
    wall = walls(here)
    early, late = _moments(here, where)
    if early <= after < late:
        change = _change(early, late, where)
        if wall is None or first(wall, where) >= change:
            # nothing more in this pass: clocks go back, and may show again what is meant
            wall = walls(shown(change, where) - _SECOND)
    while wall is not None:
        early, late = _moments(wall, where)
        if early <= late:
            return early if early > after else late
        wall = walls(wall)  # in a gap: never shown
    return None


def _moments(wall: datetime, where: ZoneInfo) -> tuple[datetime, datetime]:
    """Return when a wall time is shown, by the offset before and by the offset after a change near by.

    The same twice, as a rule. Ascending: shown twice. Descending: shown never.
    """
    local = wall.replace(tzinfo=where)
    return local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)


def _change(low: datetime, high: datetime, where: ZoneInfo) -> datetime:
    """Return the moment, after low and not after high, from which on the offset is another."""
    before = low.astimezone(where).utcoffset()
    while high - low > _SECOND:
        middle = low + (high - low) // 2 // _SECOND * _SECOND
        if middle.astimezone(where).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high
