"""The queue: lanes without places, jobs that no claim takes, that no worker starts, that nothing unblocks."""

import shlex
from collections.abc import Iterator
from typing import Any

from pgreact.doctor.checks import Finding, check, fail, warn
from pgreact.doctor.facts import Facts, statement
from pgreact.quantities import format_duration, format_rate
from pgreact.queue.views import SENT, STALLED, unanswered_reason

LONG = 86400.0  # seconds that a lane's ready jobs may take by its rate


@check("queue.built_in", "the built-in rows of the queue")
def built_in(facts: Facts) -> Iterator[Finding]:
    if not facts.row("queue_built_in")["complete"]:
        yield fail("rows that every claim needs are missing", "pgreact apply")


@check("queue.no_places", "limits of 0, and rates that ready jobs outlast by a day")
def no_places(facts: Facts) -> Iterator[Finding]:
    lanes = facts.rows("doctor_lanes")
    if lanes and lanes[0]["max_in_all"] == 0:
        yield fail(
            "max_in_progress of the whole queue is 0, and jobs are ready",
            "update pgreact.queue_setting set max_in_progress = null;",
        )
    for lane in lanes:
        if lane["max_in_progress"] == 0:
            yield fail(
                f"lane {lane['lane']}: max_in_progress is 0, and {_jobs(lane)} ready",
                f"pgreact queue limit {_argument(lane)} none",
            )
        elif lane["rate"] is not None and lane["ready"] / lane["rate"] > LONG:
            needs = format_duration(lane["ready"] / lane["rate"], roughly=True)
            yield warn(
                f"lane {lane['lane']}: {_jobs(lane)} ready, {needs} of work at {format_rate(lane['rate'])}",
                statement("update pgreact.lane set rate = null where name = {};", lane["lane"]),
            )


@check("queue.paused_lane", "paused lanes")
def paused_lane(facts: Facts) -> Iterator[Finding]:
    for lane in facts.rows("doctor_lanes"):
        if lane["paused"]:
            yield warn(
                f"lane {lane['lane']} is paused, and {_jobs(lane)} ready",
                f"pgreact queue resume {_argument(lane)}",
            )


@check("queue.unclaimed_head", "the first ready job of each lane")
def unclaimed_head(facts: Facts) -> Iterator[Finding]:
    for lane in facts.rows("doctor_lanes"):
        claimed = lane["claimed_s"]
        if (
            lane["head_s"] > STALLED
            and (claimed is None or claimed > STALLED)
            and (reason := _reason(lane, facts))
        ):
            since = format_duration(lane["head_s"], roughly=True)
            yield warn(
                f"lane {lane['lane']}: job {lane['head']} is ready for {since} and not claimed: {reason[0]}",
                reason[1],
            )
    for row in facts.rows("doctor_unrouted"):
        yield fail(
            f"jobs of task {row['task']} have no lane: no daemon has looked up the task's Celery queue",
            "pgreact doctor wakeup",
        )


def _reason(lane: dict[str, Any], facts: Facts) -> tuple[str, str] | None:
    """Return why no claim takes a lane's first job, and the remedy; ``None``: another check reports it."""
    stopped = lane["paused"] or 0 in {lane["max_in_progress"], lane["max_in_all"]}
    if stopped or (lane["rate"] is not None and lane["rate"] * STALLED < 1):
        return None
    if lane["unstarted"] >= lane["max_unstarted"]:
        return f"no worker starts {lane['unstarted']} published jobs of the lane", "pgreact doctor celery"
    if lane["max_in_progress"] is not None and lane["places"] >= lane["max_in_progress"]:
        return (
            f"{lane['places']} of {lane['max_in_progress']} places are taken",
            f"pgreact queue limit {_argument(lane)} {2 * lane['max_in_progress']}",
        )
    if lane["max_in_all"] is not None and (lane["in_all"] or 0) >= lane["max_in_all"]:
        return (
            f"{lane['in_all']} of {lane['max_in_all']} places of all lanes are taken",
            statement("update pgreact.queue_setting set max_in_progress = {};", 2 * lane["max_in_all"]),
        )
    if facts.leader is None:
        return "no daemon leads", "pgreact -A proj listen"
    return "its lane has places, so claims fail", "pgreact status"


@check("queue.blocked_orphan", "blocked jobs whose key has no job ahead")
def blocked_orphan(facts: Facts) -> Iterator[Finding]:
    for row in facts.rows("doctor_blocked"):
        yield fail(
            f"job {row['id']} is blocked, and no job of its key {row['key']} is ahead",
            statement("select pgreact.unblock_next({}); select pgreact.signal('pgreact.queue');", row["key"]),
        )


@check("queue.unanswered", "jobs that were published and that no worker started")
def unanswered(facts: Facts) -> Iterator[Finding]:
    for row in facts.rows("queue_unanswered"):
        if row["sent"] >= SENT and row["verdict"] != "busy":
            yield fail(unanswered_reason(row), "pgreact doctor celery")


@check("queue.dying", "jobs that died in the last 15 minutes")
def dying(facts: Facts) -> Iterator[Finding]:
    [row] = facts.rows("queue_totals") or [{"keeps_dying": False}]
    if row["keeps_dying"]:
        yield warn(
            f"jobs keep dying, {row['died_lately']} in the last 15 minutes", "pgreact queue list --state dead"
        )


@check("queue.canary", "the last canary, if it is on")
def canary(facts: Facts) -> Iterator[Finding]:
    for row in facts.rows("canary"):
        if row["failing"]:
            remedy = "pgreact status" if row["job"] is None else f"pgreact why {row['job']}"
            yield fail(f"the last canary has not come back: {row['place']}", remedy)


def _jobs(lane: dict[str, Any]) -> str:
    count = "1 000+" if lane["ready"] > 1000 else str(lane["ready"])
    return f"{count} {'job is' if lane['ready'] == 1 else 'jobs are'}"


def _argument(lane: dict[str, Any]) -> str:
    return shlex.quote(lane["lane"])
