"""Events of the sun, at the same moments as Celery's ``solar``, computed by ``ephem``."""

import dataclasses
import functools
import math
from datetime import UTC, date, datetime, time, timedelta
from types import ModuleType


@dataclasses.dataclass(frozen=True)
class _Search:
    """How ``ephem`` finds an event.

    Attributes:
        method: Of ``ephem.Observer``.
        horizon: Degrees.
        center: The sun's center crosses the horizon, not its upper edge.
    """

    method: str
    horizon: str = "0"
    center: bool = False


_SEARCHES = {
    "dawn_astronomical": _Search("next_rising", "-18", center=True),
    "dawn_nautical": _Search("next_rising", "-12", center=True),
    "dawn_civil": _Search("next_rising", "-6", center=True),
    "sunrise": _Search("next_rising", "-0:34"),
    "solar_noon": _Search("next_transit"),
    "sunset": _Search("next_setting", "-0:34"),
    "dusk_civil": _Search("next_setting", "-6", center=True),
    "dusk_nautical": _Search("next_setting", "-12", center=True),
    "dusk_astronomical": _Search("next_setting", "-18", center=True),
}
_DAY = timedelta(days=1)
# Up to this latitude the sun's height changes by more within a day than from day to day, so each event occurs
# in a year.
_POLE = 89.5
_DAYS = 367  # to search: an event that occurs at all occurs once a year
# Another machine may compute the same event slightly differently: an event this near counts as the same.
_SAME = timedelta(seconds=2)


def next_after(text: str, after: datetime) -> datetime | None:
    """Return the first event that is later by two seconds or more.

    Args:
        text: ``EVENT LATITUDE LONGITUDE``, in degrees, north and east positive.
        after: In UTC.

    Returns:
        A whole second in UTC; ``None``: it does not occur within a year. Days without it, such as those of
        polar night, are skipped.

    Raises:
        ValueError: The text is wrong, or ``ephem`` is not installed.
    """
    event, latitude, longitude = _parse(text)
    # Each day of the place is computed by itself, so that each search returns the same moment for an event.
    day = (after + _offset(longitude)).date() - _DAY
    for _ in range(_DAYS):
        found = _from_noon(event, latitude, longitude, day)
        if found is not None and found >= after + _SAME:
            return found
        day += _DAY
    return None


@functools.lru_cache(maxsize=4096)
def _parse(text: str) -> tuple[str, float, float]:
    words = text.split()
    if len(words) != 3:
        raise ValueError(
            f'solar "{text}": write an event, a latitude and a longitude, such as "sunset 48.85 2.35"'
        )
    event = words[0].lower()
    if event not in _SEARCHES:
        raise ValueError(f'solar "{text}": unknown event "{words[0]}"; known are {", ".join(_SEARCHES)}')
    latitude = _degrees(text, words[1], "latitude", 90)
    if abs(latitude) > _POLE and event != "solar_noon":
        raise ValueError(
            f'solar "{text}" may never occur so near to a pole: use a latitude up to {_POLE} degrees'
        )
    return event, latitude, _degrees(text, words[2], "longitude", 180)


def _degrees(text: str, word: str, name: str, most: int) -> float:
    try:
        degrees = float(word)
    except ValueError:
        degrees = math.nan
    if not -most <= degrees <= most:
        raise ValueError(f'solar "{text}": invalid {name} "{word}"; allowed: -{most} to {most} degrees')
    return degrees


def _offset(longitude: float) -> timedelta:
    """Return how far the mean solar time of a place is ahead of UTC."""
    return timedelta(days=longitude / 360)


@functools.lru_cache(maxsize=65536)
def _from_noon(name: str, latitude: float, longitude: float, day: date) -> datetime | None:
    """Return when an event occurs between a day's noon at the place and the next noon, if it does."""
    ephem, event = _library(), _SEARCHES[name]
    place = ephem.Observer()
    place.lat, place.lon = math.radians(latitude), math.radians(longitude)
    place.elevation = place.pressure = 0
    place.horizon = event.horizon
    midnight = datetime.combine(day, time(), UTC) - _offset(longitude)
    noon = place.next_transit(ephem.Sun(), start=ephem.Date(midnight))
    if event.method == "next_transit":
        found = noon
    else:
        options = {"use_center": True} if event.center else {}
        try:
            found = getattr(place, event.method)(ephem.Sun(), start=noon, **options)
        except ephem.CircumpolarError:
            return None
    moment: datetime = found.datetime().replace(tzinfo=UTC, microsecond=0)
    return moment


def _library() -> ModuleType:
    try:
        import ephem
    except ImportError:
        raise ValueError("solar needs a library: pip install 'pgreact[solar]'") from None
    return ephem
