"""The screen of ``pgreact top``: a reading as tables, fitted to the terminal."""

import datetime
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pgreact.cli.status import ago
from pgreact.cli.top_reading import Reading
from pgreact.dispatch.route import QUEUE_ROUTE
from pgreact.logs import printable
from pgreact.quantities import format_count, format_duration
from pgreact.queue.flow import Flow
from pgreact.queue.views import taken

REASONS = 3  # of what is wrong
ROUTES = 6
LEAST = 3  # lanes that are shown on the lowest screen
SLOW = 60.0  # seconds of waiting from which a lane's oldest job stands out
NO_FLOW = Flow(0.0, None, None, None, None)


class _Column(NamedTuple):
    title: str
    least: int  # columns of the terminal from which on it is shown
    right: bool = True


_LANES = (
    _Column("lane", 0, right=False),
    _Column("ready", 0),
    _Column("delayed", 70),
    _Column("blocked", 70),
    _Column("in progress", 0),
    _Column("oldest", 0),
    _Column("jobs/s", 60),
    _Column("wait p50", 110),
    _Column("wait p95", 80),
    _Column("run p50", 110),
    _Column("run p95", 90),
    _Column("", 60, right=False),
)
_ROUTES = (
    _Column("route", 0, right=False),
    _Column("dispatches", 0),
    _Column("last", 0),
    _Column("dirty", 50),
    _Column("in flight", 60),
    _Column("gate", 70, right=False),
    _Column("", 80, right=False),
)
_DEAD = (
    _Column("died", 0),
    _Column("job", 0),
    _Column("lane", 60, right=False),
    _Column("task", 0, right=False),
    _Column("error", 50, right=False),
)
_EVENTS = (
    _Column("ago", 0),
    _Column("event", 0, right=False),
    _Column("subject", 0, right=False),
    _Column("actor", 70, right=False),
)


def frame(
    reading: Reading, elapsed: float, width: int, height: int | None = None, title: str = ""
) -> RenderableType:
    """Return a frame.

    Args:
        reading: The state of the cluster.
        elapsed: Seconds since it was read: ages grow by them.
        width: Columns of the terminal; on a narrow one, tables have fewer columns.
        height: Its lines, which the lanes leave for what follows them; ``None``: there is no end.
        title: The first line, if any. What does not fit is cut off at the end.
    """
    found, now = reading.status, reading.at + datetime.timedelta(seconds=elapsed)
    head = [*_head(found, now)]
    routes = [_route(route, now) for route in _by_dispatches(found)]
    routes = routes if height is None else routes[:ROUTES]
    dead = [_dead(row, now) for row in reading.dead]
    lanes = [
        _lane(lane, reading.flow.get(lane["name"] or "", NO_FLOW), elapsed)
        for lane in found["queue"]["lanes"]
    ]
    events = [_event(row, now) for row in reading.events]
    hidden = 0
    if height is not None:
        room = height - len(head) - 2 - (len(routes) + 2) - (len(dead) + 2 if dead else 0) - 4 - bool(title)
        hidden = max(0, len(lanes) - max(LEAST, room))
        lanes = lanes[: len(lanes) - hidden]
        events = events[: max(0, room + 2 - len(lanes) - bool(hidden))]
    first = [_text(title, "bold red" if title.startswith("LOST") else "dim")] if title else []
    parts: list[RenderableType] = [*first, *head, Text(), _table(_LANES, lanes, width)]
    if hidden:
        parts.append(Text(f"… and {hidden} more lanes", style="dim"))
    for columns, lines in ((_ROUTES, routes), (_DEAD, dead), (_EVENTS, events)):
        if lines:
            parts += [Text(), _table(columns, lines, width)]
    return Group(*parts)


def _head(found: dict[str, Any], now: datetime.datetime) -> Iterator[Text]:
    leader, standbys = found["leader"], found["standbys"]
    if leader:
        line = f"leader   {leader['host']} pid {leader['pid']}, for {ago(leader['since'], now)}"
    else:
        line = "leader   NONE"
    names = ", ".join(f"{standby['host']} pid {standby['pid']}" for standby in standbys) or "none"
    yield _text(f"{line}; standbys: {names}", "" if leader else "bold red")
    queue = found["queue"]
    totals = {
        state: format_count(sum(lane[state] for lane in queue["lanes"]))
        for state in ("ready", "delayed", "blocked")
    }
    yield _text(
        f"queue    {totals['ready']} ready, {totals['delayed']} delayed, {totals['blocked']} blocked; "
        f"{_places(queue)} in progress; {format_count(queue['dead'])} dead, "
        f"{format_count(queue['died_lately'])} within 15 min"
    )
    reasons = found["reasons"]
    for reason in reasons[:REASONS]:
        yield _text(f"UNHEALTHY  {reason}", "bold red")
    if len(reasons) > REASONS:
        yield _text(f"UNHEALTHY  and {len(reasons) - REASONS} more: pgreact status", "bold red")


def _lane(lane: dict[str, Any], flow: Flow, elapsed: float) -> list[Text]:
    oldest = None if lane["oldest_s"] is None else lane["oldest_s"] + elapsed
    state = "PAUSED" if lane["paused"] else "FULL" if lane["full"] else ""
    return [
        _text(lane["name"] or "(none yet)"),
        *(
            _text(format_count(lane[key]), "" if lane[key] else "dim")
            for key in ("ready", "delayed", "blocked")
        ),
        _text(_places(lane)),
        _text(_duration(oldest), "bold yellow" if oldest is not None and oldest >= SLOW else ""),
        _text(f"{flow.jobs_s:.2f}"),
        *(_text(_duration(value)) for value in (flow.wait_p50, flow.wait_p95, flow.run_p50, flow.run_p95)),
        _text(state, "bold yellow"),
    ]


def _by_dispatches(found: dict[str, Any]) -> list[dict[str, Any]]:
    built_in = found["queue"]["dispatch"]
    routes = found["routes"] + ([built_in] if built_in else [])
    return sorted(
        routes, key=lambda route: (not (route["error"] or route["dirty_since"]), -route["dispatches"])
    )


def _route(route: dict[str, Any], now: datetime.datetime) -> list[Text]:
    last, gate = route["last_dispatch"], route["gate"]
    closed = gate["now"] == "closed"
    return [
        _text("(queue)" if route["name"] == QUEUE_ROUTE else route["name"]),
        _text("-" if route["name"] == QUEUE_ROUTE else str(route["dispatches"])),
        _text(f"{ago(last['published_at'], now)} ago" if last else "-"),
        _text(ago(route["dirty_since"], now) if route["dirty_since"] else "-"),
        _text(ago(route["in_flight_since"], now) if route["in_flight_since"] else "-"),
        _text(f"closed for {ago(gate['since'], now)}" if closed else "open"),
        _text(route["error"] or "", "bold red"),
    ]


def _dead(row: dict[str, Any], now: datetime.datetime) -> list[Text]:
    error = (row["error"] or row["outcome"]).strip().splitlines()[0]
    cells = (f"{ago(row['died_at'], now)} ago", str(row["id"]), row["lane"] or "-", row["task"], error)
    return [_text(cell) for cell in cells]


def _event(row: dict[str, Any], now: datetime.datetime) -> list[Text]:
    return [_text(cell) for cell in (ago(row["at"], now), row["event"], row["subject"], row["actor"])]


def _table(columns: Sequence[_Column], lines: Sequence[Sequence[Text]], width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    shown = [number for number, column in enumerate(columns) if width >= column.least]
    for number in shown:
        column = columns[number]
        table.add_column(
            column.title, justify="right" if column.right else "left", no_wrap=True, overflow="ellipsis"
        )
    for line in lines:
        table.add_row(*(line[number] for number in shown))
    return table


def _places(found: dict[str, Any]) -> str:
    return f"{taken(found)}/{found['max_in_progress'] or '∞'}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return format_duration(round(seconds, 3)) if seconds < 1 else format_duration(seconds, roughly=True)


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style)
