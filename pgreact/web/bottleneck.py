"""Where the time goes: lanes by the parts of an attempt's way, each against the lane's own past week.

A cell lights up when its mean is at least twice that of the past and 50 ms above it. The bottleneck is the
lit cell that adds most seconds to a job. Jobs that wait now count, too: a lane in which nothing is claimed
settles nothing that a mean could show.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pgreact.quantities import format_rate

PARTS = ("transaction", "claim", "publish", "broker", "run")
_FACTORS = (2.0, 4.0, 10.0)  # of the past's mean, from which a cell has level 1, 2 and 3
_LEAST = 0.05  # seconds above the past's mean
_FEW = 5  # attempts of the past below which it says nothing


class Cell(NamedTuple):
    """A lane's part of the way."""

    part: str
    seconds: float | None  # the mean of the last 15 minutes, or the wait of a job that is there now
    usual: float | None  # the mean of the past
    level: int  # 0: as usual, to 3
    reason: str  # of a cell that is lit

    @property
    def excess(self) -> float:
        """The seconds above the past."""
        return (self.seconds or 0) - (self.usual or 0)


class Row(NamedTuple):
    """A lane with its cells, in the order of ``PARTS``."""

    lane: str
    cells: list[Cell]


def heat_map(
    sums: Sequence[Mapping[str, Any]],
    lanes: Sequence[Mapping[str, Any]],
    causes: Sequence[Mapping[str, Any]],
    *,
    leads: bool,
) -> list[Row]:
    """Return the heat map.

    Args:
        sums: The rows of ``web_parts``.
        lanes: The rows of ``queue_lanes``.
        causes: The rows of ``web_lane_causes``.
        leads: Whether a daemon leads.
    """
    recent = {row["lane"]: row for row in sums if row["recent"]}
    past = {row["lane"]: row for row in sums if not row["recent"]}
    depth = {row["name"]: row for row in lanes}
    now = {row["lane"]: row for row in causes}
    names = sorted({*recent, *(name for name, row in depth.items() if row["ready"] or row["in_progress"])})
    return [
        Row(
            name,
            [
                _cell(part, recent.get(name), past.get(name), depth.get(name, {}), now.get(name, {}), leads)
                for part in PARTS
            ],
        )
        for name in names
        if name
    ]


def brightest(found: Sequence[Row]) -> tuple[Row, Cell] | None:
    """Return the lit cell that adds most seconds, with its row; ``None``: none is lit."""
    lit = [(row, cell) for row in found for cell in row.cells if cell.level]
    return max(lit, key=lambda pair: pair[1].excess, default=None)


def _cell(
    part: str,
    recent: Mapping[str, Any] | None,
    past: Mapping[str, Any] | None,
    depth: Mapping[str, Any],
    now: Mapping[str, Any],
    leads: bool,
) -> Cell:
    seconds, usual = _mean(part, recent, 1), _mean(part, past, _FEW)
    waiting = {"claim": depth.get("oldest_s"), "broker": now.get("waits_s")}.get(part)
    if waiting is not None and waiting > (seconds or 0):
        seconds = waiting
    level = 0
    # without a past, only a wait that goes on can be told from what is usual
    compared = usual if usual is not None else (1.0 if waiting is not None else None)
    if seconds is not None and compared is not None and seconds - compared >= _LEAST:
        level = sum(seconds >= factor * compared for factor in _FACTORS)
    return Cell(part, seconds, usual, level, _reason(part, depth, now, leads) if level else "")


def _mean(part: str, row: Mapping[str, Any] | None, least: int) -> float | None:
    attempts = row["transactions" if part == "transaction" else "started"] if row else 0
    return row[part] / attempts if row and attempts >= least else None


def _reason(part: str, depth: Mapping[str, Any], now: Mapping[str, Any], leads: bool) -> str:
    match part:
        case "transaction":
            return "transactions commit long after they enqueue"
        case "claim":
            return _claim_reason(depth, now, leads)
        case "publish":
            return "the broker takes messages slowly, or not at all"
        case "broker" if now.get("unstarted") and not now.get("running"):
            return f"no worker runs a job of the lane, and {now['unstarted']} are published"
        case "broker":
            waiting = f"; {now['unstarted']} published jobs wait" if now.get("unstarted") else ""
            return f"workers are busy{waiting}"
        case _:
            return "its tasks run longer than usual"


def _claim_reason(depth: Mapping[str, Any], now: Mapping[str, Any], leads: bool) -> str:
    causes = (
        (not leads, "no daemon leads"),
        (now.get("paused"), "the lane is paused"),
        (
            depth.get("full") and depth["places"] >= (now.get("max_in_progress") or float("inf")),
            f"all {now.get('max_in_progress')} places of the lane are taken",
        ),
        (depth.get("full"), f"{depth.get('unstarted')} jobs are published, and no worker starts them"),
        (now.get("limited"), f"the lane's rate, {format_rate(now.get('rate') or 0)}"),
        (depth.get("blocked"), f"jobs wait for others of their key: {depth.get('blocked')} are blocked"),
    )
    return next((text for holds, text in causes if holds), "all places of the queue were taken")
