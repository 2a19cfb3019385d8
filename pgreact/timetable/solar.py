"""Events of the sun, at the moments at which Celery's ``solar`` sees them."""

import dataclasses
import functools
import math
from datetime import UTC, date, datetime, time, timedelta
from types import ModuleType


@dataclasses.dataclass(frozen=True)
class _Event:
    method: str
    horizon: str = "0"  # degrees
    center: bool = False  # of the sun; else its upper edge


_EVENTS = {
    "dawn_astronomical": _Event("next_rising", "-18", center=True),
    "dawn_nautical": _Event("next_rising", "-12", center=True),
    "dawn_civil": _Event("next_rising", "-6", center=True),
    "sunrise": _Event("next_rising", "-0:34"),
    "solar_noon": _Event("next_transit"),
    "sunset": _Event("next_setting", "-0:34"),
    "dusk_civil": _Event("next_setting", "-6", center=True),
    "dusk_nautical": _Event("next_setting", "-12", center=True),
    "dusk_astronomical": _Event("next_setting", "-18", center=True),
}
_DAY = timedelta(days=1)
# Up to this latitude the sun's height changes by more on a day than from one day to the next, so that each
# event happens sometime in a year.
_POLE = 89.5
_SEARCH = 367  # days: whatever happens at all, happens once a year
# Another machine may reckon the same event a little differently: what is this near has been.
_SAME = timedelta(seconds=2)


def next_after(text: str, after: datetime) -> datetime | None:
    """Return the first event that is later by two seconds or more.

    Args:
        text: ``EVENT LATITUDE LONGITUDE``, in degrees, north and east positive.
        after: In UTC.

    Returns:
        A whole second in UTC; ``None`` if the event does not happen within a year. Days without it, such as
        those of polar night, are passed over.

    Raises:
        ValueError: The text is wrong, or ``ephem`` is not installed.
    """
    event, latitude, longitude = _parse(text)
    # Each day of the place is reckoned by itself, so that whoever seeks an event finds it at the same moment.
    day = (after + _offset(longitude)).date() - _DAY
    for _ in range(_SEARCH):
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
    if event not in _EVENTS:
        raise ValueError(f'solar "{text}": "{words[0]}" is no event; there are {", ".join(_EVENTS)}')
    latitude = _degrees(text, words[1], "latitude", 90)
    if abs(latitude) > _POLE and event != "solar_noon":
        raise ValueError(
            f'solar "{text}" may never occur: so near to a pole no day has it; go no nearer than {_POLE} '
            "degrees"
        )
    return event, latitude, _degrees(text, words[2], "longitude", 180)


def _degrees(text: str, word: str, name: str, most: int) -> float:
    try:
        degrees = float(word)
    except ValueError:
        degrees = math.nan
    if not -most <= degrees <= most:
        raise ValueError(f'solar "{text}": "{word}" is no {name}; it lies between -{most} and {most} degrees')
    return degrees


def _offset(longitude: float) -> timedelta:
    """Return how far the clocks of a place are ahead of UTC if they go by the sun."""
    return timedelta(days=longitude / 360)


@functools.lru_cache(maxsize=65536)
def _from_noon(name: str, latitude: float, longitude: float, day: date) -> datetime | None:
    """Return when an event happens between noon on a day of the place and the next noon, if it does."""
    ephem, event = _library(), _EVENTS[name]
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
