"""The timetable beside Beat, django-celery-beat and RedBeat: what entries cost, and how long one waits."""

import dataclasses
import time
from contextlib import ExitStack

from benchmarks import timetable_cost, timetable_idle, timetable_waits
from benchmarks.processes import Workshop
from benchmarks.report import Report
from benchmarks.timetable_sides import Beat, DjangoCeleryBeat, RedBeat
from pgreact.demo.postgres import EmbeddedPostgres
from tests.servers import redis_server

RESTING = 10_000  # entries whose idle minute is looked at


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is measured."""

    counts: tuple[int, ...]  # of the peers' entries
    limit: float  # seconds that a side has to send all that is due
    edits: int
    runs: int  # of an entry that runs each second
    idle: float  # seconds, at least


FULL = Size(counts=(1000, 10_000), limit=12, edits=6, runs=20, idle=60)
QUICK = Size(counts=(1000, 10_000), limit=1, edits=1, runs=2, idle=3)
# nothing is estimated, but for 100 000 due at once
WHOLE = Size(counts=(1000, 10_000, 100_000), limit=500, edits=20, runs=60, idle=60)


def run(report: Report, *, quick: bool) -> None:
    """Measure all, and print it."""
    measure(report, QUICK if quick else FULL)


def measure(report: Report, size: Size) -> None:
    """Measure so much, and print it."""
    with ExitStack() as stack:
        workshop = stack.enter_context(Workshop())
        postgres = stack.enter_context(EmbeddedPostgres(settings={"shared_buffers": "128MB"}))
        broker = stack.enter_context(redis_server()).url
        report.note(
            f"PostgreSQL {postgres.major}, which flushes nothing; Redis; messages are counted, not sent"
        )
        peers = _peers(workshop, postgres, broker, 1)
        costs, rushes = {}, {}
        for count in size.counts:
            with timetable_cost.at_rest(peers, count) as (costs[count], beats):
                if count == RESTING:
                    # what else takes its time without much ado is done meanwhile, by others of their kind
                    watch = timetable_idle.Watch(beats)
                    began = time.monotonic()
                    others = _, django, redbeat = _peers(workshop, postgres, broker, 2)
                    edited = timetable_waits.edits([django, redbeat], size.edits)
                    drifts = timetable_waits.drift(others, size.runs)
                    taken = {redbeat.name: [timetable_waits.redbeat_takeover(redbeat)]}
                    time.sleep(max(0, size.idle - (time.monotonic() - began)))
                    idle = watch.minute()
            rushes[count] = {side.name: timetable_cost.rush(side, count, size.limit) for side in peers}
        timetable_cost.print_costs(report, costs, rushes)
        timetable_waits.print_waits(report, edited, taken, drifts)
        timetable_idle.print_idle(report, RESTING, idle)


def _peers(
    workshop: Workshop, postgres: EmbeddedPostgres, broker: str, number: int
) -> tuple[Beat, DjangoCeleryBeat, RedBeat]:
    """Make a set of peers with stores of their own."""
    return (
        Beat(workshop, broker, f"beat-{number}"),
        DjangoCeleryBeat(workshop, broker, postgres, f"django_{number}"),
        RedBeat(workshop, broker, number),
    )
