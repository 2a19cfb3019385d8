"""Charts, and the cell of the heat map that lights up, without a server."""

import re
from typing import Any

import pytest

from pgreact.histogram import quantile
from pgreact.web import bottleneck, charts

BOUNDS = (0.1, 1.0, 10.0)


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ((), 0.5, None),
        ((0, 0, 0, 0), 0.5, None),
        ((10, 0, 0, 0), 0.5, 0.05),
        ((10, 10, 0, 0), 0.75, 0.55),
        ((0, 10, 0, 0), 1.0, 1.0),
        ((0, 0, 4, 4), 0.5, 10.0),
        ((0, 0, 0, 4), 0.95, 10.0),
        ((1, 0, 0, 1), 0.5, 0.1),
    ],
)
def test_quantile_is_interpolated_in_its_bucket(
    counts: tuple[int, ...], share: float, value: float | None
) -> None:
    assert quantile(counts, BOUNDS, share) == (value if value is None else pytest.approx(value))


def test_bars_stand_on_those_below_and_are_never_invisible() -> None:
    assert charts.bars([0, 5], 10, 12) == "M1.1 12v-6h.8v6z"
    assert charts.bars([5], 10, 12, below=[5]) == "M0.1 6v-6h.8v6z"
    assert charts.bars([1], 100_000, 12) == "M0.1 12v-0.5h.8v0.5z"
    assert charts.bars([0, 0], 0, 12) == ""


def test_line_breaks_where_a_value_is_missing() -> None:
    assert charts.line([1, 2, None, 4], 4, 8) == "M0.1 6h.4L1.5 4M3.1 0h.4"
    assert charts.line([0.0], 0, 8) == "M0.1 8h.4"
    assert charts.line([None], 0, 8) == ""


def sums(*, recent: bool, attempts: int = 10, **means: float) -> dict[str, Any]:
    """A row of ``web_parts``."""
    parts = {part: attempts * means.get(part, 0.01) for part in bottleneck.PARTS}
    return {"lane": "mail", "recent": recent, "started": attempts, "transactions": attempts, **parts}


DEPTH = {
    "name": "mail",
    "ready": 0,
    "oldest_s": None,
    "in_progress": 0,
    "places": 0,
    "unstarted": 0,
    "blocked": 0,
    "full": False,
}
NOW = {
    "lane": "mail",
    "paused": False,
    "limited": False,
    "rate": None,
    "max_in_progress": 5,
    "waits_s": None,
    "unstarted": 0,
    "running": 0,
}


def lit(
    *rows: dict[str, Any],
    depth: dict[str, Any] | None = None,
    now: dict[str, Any] | None = None,
    leads: bool = True,
) -> tuple[str, int, str] | None:
    """Return part, level and reason of the brightest cell."""
    found = bottleneck.heat_map(rows, [{**DEPTH, **(depth or {})}], [{**NOW, **(now or {})}], leads=leads)
    brightest = bottleneck.brightest(found)
    return (brightest[1].part, brightest[1].level, brightest[1].reason) if brightest else None


@pytest.mark.parametrize(
    ("usual", "lately", "level"),
    [(1.0, 1.9, 0), (1.0, 2.0, 1), (1.0, 4.0, 2), (1.0, 10.0, 3), (0.001, 0.04, 0), (0.001, 0.06, 3)],
)
def test_cell_lights_up_by_its_factor_unless_the_difference_is_small(
    usual: float, lately: float, level: int
) -> None:
    found = lit(sums(recent=False, run=usual), sums(recent=True, run=lately))
    assert found == (("run", level, "its tasks run longer than usual") if level else None)


def test_means_without_a_past_light_nothing_and_a_wait_that_goes_on_does() -> None:
    assert lit(sums(recent=True, run=50.0)) is None
    assert lit(sums(recent=True, run=50.0), sums(recent=False, attempts=4)) is None
    assert lit(depth={"ready": 1, "oldest_s": 1.5}) is None
    assert lit(depth={"ready": 1, "oldest_s": 30.0}) == ("claim", 3, "all places of the queue were taken")


@pytest.mark.parametrize(
    ("depth", "now", "leads", "reason"),
    [
        ({}, {"paused": True}, False, "no daemon leads"),
        ({}, {"paused": True}, True, "the lane is paused"),
        ({"full": True, "places": 5}, {}, True, "all 5 places of the lane are taken"),
        (
            {"full": True, "unstarted": 3},
            {"max_in_progress": None},
            True,
            "3 jobs are published, and no worker starts them",
        ),
        ({}, {"limited": True, "rate": 0.5}, True, "the lane's rate, 30/m"),
        ({"blocked": 7}, {}, True, "jobs wait for others of their key: 7 are blocked"),
    ],
)
def test_claim_names_what_holds_up_the_lane(
    depth: dict[str, Any], now: dict[str, Any], leads: bool, reason: str
) -> None:
    found = lit(depth={"ready": 1, "oldest_s": 60.0, **depth}, now=now, leads=leads)
    assert found == ("claim", 3, reason)


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ({"unstarted": 4}, "no worker runs a job of the lane, and 4 are published"),
        ({"unstarted": 4, "running": 2}, "workers are busy; 4 published jobs wait"),
    ],
)
def test_broker_tells_absent_workers_from_busy_ones(now: dict[str, Any], reason: str) -> None:
    depth = {"ready": 1, "in_progress": 4, "oldest_s": None}
    assert lit(depth=depth, now={"waits_s": 60.0, **now}) == ("broker", 3, reason)


def test_lane_without_jobs_now_or_lately_has_no_row() -> None:
    assert bottleneck.heat_map([sums(recent=False)], [DEPTH], [NOW], leads=True) == []


def test_paths_are_short_numbers() -> None:
    path = charts.bars([1 / 3] * 60, 1, 12) + charts.line([1 / 3] * 60, 1, 12)
    assert not re.search(r"\d\.\d{4}", path)
