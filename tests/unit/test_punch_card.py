"""The punch card of a schedule."""

import datetime
import zoneinfo

from pgreact.web.punch_card import CELL, DAYS, LEFT, punch_card

PARIS = zoneinfo.ZoneInfo("Europe/Paris")
NOW = datetime.datetime(2026, 4, 2, 12, tzinfo=datetime.UTC)
TODAY = datetime.date(2026, 4, 2)


def cell(
    day: datetime.date, slot: int, outcome: str = "fired", occurrences: int = 1, late: float = 0
) -> dict[str, object]:
    return {"day": day, "slot": slot, "outcome": outcome, "occurrences": occurrences, "late": late}


def test_days_end_today_and_mark_where_clocks_change() -> None:
    card = punch_card([], PARIS, NOW)
    assert len(card.days) == DAYS
    assert (card.days[0].name, card.days[-1].name) == ("Fri 20 Mar", "Thu 02 Apr")
    assert [(day.name, day.clocks_change) for day in card.days if day.clocks_change] == [
        ("Sun 29 Mar", "UTC+01:00 → UTC+02:00")
    ]


def test_dot_stands_at_its_half_hour_and_says_what_it_is() -> None:
    [dot] = punch_card([cell(TODAY, 5, late=1800)], PARIS, NOW).dots
    assert dot.x == LEFT + 5.5 * CELL
    assert dot.late == CELL
    assert dot.title == "Thu 02 Apr 02:30: 1 fired, up to 30m late"


def test_dots_grow_with_their_number_and_small_ones_are_drawn_last() -> None:
    cells = [cell(TODAY, 5, "missed", 1), cell(TODAY, 5, "fired", 100)]
    dots = punch_card(cells, PARIS, NOW).dots
    assert [dot.outcome for dot in dots] == ["fired", "missed"]
    assert dots[0].radius > dots[1].radius


def test_line_of_a_late_one_ends_with_the_day_and_older_days_are_left_out() -> None:
    [dot] = punch_card(
        [cell(TODAY, 46, late=1e6), cell(TODAY - datetime.timedelta(days=20), 1)], PARIS, NOW
    ).dots
    assert dot.late == 2 * CELL
