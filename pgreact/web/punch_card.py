"""The punch card of a schedule: its occurrences of two weeks, a row for each day, by what became of them."""

import dataclasses
import datetime
import math
from collections.abc import Sequence
from typing import Any

from pgreact.quantities import format_duration

DAYS = 14
SLOTS = 48  # half hours of a day
CELL = 14  # width and height of a slot
LEFT = 96  # width of the days' names
TOP = 18  # height of the hours' names
_SMALLEST, _LARGEST = 2.0, 6.0  # radius


@dataclasses.dataclass(frozen=True)
class Dot:
    """Occurrences of a half hour with one outcome.

    Attributes:
        late: How far the line reaches that shows how late the last of them fired; 0: less than can be seen.
    """

    x: float
    y: float
    radius: float
    outcome: str
    late: float
    title: str


@dataclasses.dataclass(frozen=True)
class Day:
    """A row. ``clocks_change``: the offsets before and after, if they differ."""

    name: str
    y: int
    clocks_change: str | None


@dataclasses.dataclass(frozen=True)
class Card:
    """A punch card, in units of its drawing."""

    days: list[Day]
    dots: list[Dot]
    width: int = LEFT + SLOTS * CELL + CELL
    height: int = TOP + DAYS * CELL + 4
    left: int = LEFT
    top: int = TOP
    cell: int = CELL


def punch_card(cells: Sequence[dict[str, Any]], zone: datetime.tzinfo, now: datetime.datetime) -> Card:
    """Return the punch card.

    Args:
        cells: The rows of ``web_punch_card``.
        zone: The schedule's time zone.
        now: The end.
    """
    today = now.astimezone(zone).date()
    dates = [today - datetime.timedelta(days=ago) for ago in reversed(range(DAYS))]
    most = max((cell["occurrences"] for cell in cells), default=1)
    dots = [
        _dot(cell, dates.index(cell["day"]), most)
        for cell in sorted(cells, key=lambda cell: -cell["occurrences"])
        if cell["day"] in dates
    ]
    days = [
        Day(f"{date:%a %d %b}", TOP + row * CELL + CELL // 2, _change(date, zone))
        for row, date in enumerate(dates)
    ]
    return Card(days, dots)


def _dot(cell: dict[str, Any], row: int, most: int) -> Dot:
    x = LEFT + (cell["slot"] + 0.5) * CELL
    late = min(cell["late"] / 1800 * CELL, (SLOTS - cell["slot"]) * CELL)
    hour, half = divmod(cell["slot"], 2)
    title = f"{cell['day']:%a %d %b} {hour:02}:{half * 30:02}: {cell['occurrences']} {cell['outcome']}"
    if cell["late"] >= 1:
        title += f", up to {format_duration(cell['late'], roughly=True)} late"
    radius = _SMALLEST + (_LARGEST - _SMALLEST) * math.sqrt(cell["occurrences"] / most)
    y = TOP + row * CELL + CELL / 2
    return Dot(x, y, round(radius, 1), cell["outcome"], round(late, 1) if late >= 2 else 0, title)


def _change(date: datetime.date, zone: datetime.tzinfo) -> str | None:
    offsets = [
        datetime.datetime.combine(day, datetime.time(), zone).utcoffset()
        for day in (date, date + datetime.timedelta(days=1))
    ]
    before, after = (datetime.timezone(offset or datetime.timedelta()) for offset in offsets)
    return None if before == after else f"{before} → {after}"
