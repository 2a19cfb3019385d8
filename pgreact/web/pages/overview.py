"""The overview: throughput, waits and runs by lane, where the time goes, totals, and what is wrong."""

import datetime
from typing import Any

from pgreact.cli import status
from pgreact.postgres.change import Connection, rows
from pgreact.postgres.queries import query
from pgreact.queue import views
from pgreact.web import bottleneck, charts
from pgreact.web.lane_numbers import MINUTES, last_hour, past_parts, totals
from pgreact.web.page import Page, Query

HEIGHT = 12  # of a chart, in units of a minute's width
LANES = 12  # that have charts


def _health(connection: Connection, _query: Query) -> dict[str, Any]:
    """Return the status, without a comparison with the file: that is ``pgreact status`` and the doctor's."""
    found = status.read(connection)
    lanes = found["queue"]["lanes"]
    depths = {state: views.total(lanes, state) for state in ("ready", "delayed", "blocked")}
    return {**found, "totals": depths}


def _throughput(connection: Connection, query_: Query) -> dict[str, Any]:
    hours, further = last_hour(connection, LANES)
    jobs, done = totals(connection)
    rest = [all_ - fine for all_, fine in zip(jobs, done, strict=True)]
    top = max(*jobs, 1)
    return {
        "lanes": [_chart(lane) for lane in hours],
        "more": further,
        "jobs": sum(jobs),
        "failed": sum(rest),
        "top": top,
        "done": charts.bars(done, top, HEIGHT),
        "rest": charts.bars(rest, top, HEIGHT, done),
        "marks": _marks(connection, query_.now),
    }


def _chart(lane: Any) -> dict[str, Any]:
    """Return the drawings of a lane; its waits, and its runs, have their own scale."""
    failed = [all_ - fine for all_, fine in zip(lane.jobs, lane.done, strict=True)]
    top, longest_wait, longest_run = max(lane.jobs), _most(lane.wait_p95), _most(lane.run_p95)
    return {
        "name": lane.name,
        "total": lane.total,
        "failed": sum(failed),
        "top": top,
        "waits": lane.waits,
        "runs": lane.runs,
        "longest_wait": longest_wait,
        "longest_run": longest_run,
        "done_bars": charts.bars(lane.done, top, HEIGHT),
        "failed_bars": charts.bars(failed, top, HEIGHT, lane.done),
        "wait_line": charts.line(lane.wait_p95, longest_wait, HEIGHT - 1),
        "run_line": charts.line(lane.run_p95, longest_run, HEIGHT - 1),
    }


def _most(values: list[float | None]) -> float:
    return max((value for value in values if value is not None), default=0.0)


def _marks(connection: Connection, now: datetime.datetime) -> list[dict[str, Any]]:
    """Return the events of the last hour with their places in the chart."""
    found = rows(connection, query("web_marks"))
    for row in found:
        row["x"] = max(0.0, MINUTES - (now - row["at"]).total_seconds() / 60)
    return found


def _heat(connection: Connection, query_: Query) -> dict[str, Any]:
    health = query_.found["health"].value  # None: it could not be read
    found = bottleneck.heat_map(
        [*rows(connection, query("web_parts")), *past_parts(connection)],
        health["queue"]["lanes"] if health else [],
        rows(connection, query("web_lane_causes")),
        leads=health is None or health["leader"] is not None,
    )
    return {"parts": bottleneck.PARTS, "rows": found, "brightest": bottleneck.brightest(found)}


OVERVIEW = Page(
    "overview", "Overview", {"health": _health, "heat": _heat, "throughput": _throughput}, path="/"
)
