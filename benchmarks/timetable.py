"""The timetable beside Beat, django-celery-beat and RedBeat: the cost of entries, and latencies."""

import dataclasses
import time
from contextlib import ExitStack

from benchmarks import timetable_cost, timetable_idle, timetable_import, timetable_waits
from benchmarks.processes import Workshop
from benchmarks.report import Report
from benchmarks.timetable_cost import Cost, Rush
from benchmarks.timetable_ours import Direct, Queue
from benchmarks.timetable_sides import Beat, DjangoCeleryBeat, RedBeat, Running, Side
from pgreact.demo.postgres import EmbeddedPostgres
from tests.servers import redis_server

RESTING = 10_000  # entries of the peers in the idle minute
FEW, MANY = 10, 100_000  # entries of ours in the idle minute


@dataclasses.dataclass(frozen=True)
class Size:
    """The size of a run of the bench."""

    counts: tuple[int, ...]  # of entries, on all sides
    limit: float  # seconds for a side to send all due entries
    rounds: int  # of the quick parts: ours and RedBeat's all due, imports
    edits: int
    our_edits: int
    takeovers: int
    runs: int  # of an entry that runs each second
    idle: float  # seconds, at least


FULL = Size((1000, 10_000), limit=12, rounds=3, edits=6, our_edits=200, takeovers=10, runs=20, idle=60)
QUICK = Size((1000, 10_000), limit=1, rounds=1, edits=1, our_edits=10, takeovers=1, runs=2, idle=3)
# nothing is estimated, except 100 000 due at once
WHOLE = Size(
    (1000, 10_000, MANY), limit=500, rounds=5, edits=20, our_edits=1000, takeovers=20, runs=60, idle=60
)


def run(report: Report, *, quick: bool) -> None:
    """Run the bench."""
    measure(report, QUICK if quick else FULL)


def measure(report: Report, size: Size) -> None:
    """Measure, and print the results."""
    with ExitStack() as stack:
        workshop = stack.enter_context(Workshop())
        settings = {"shared_buffers": "128MB", "autovacuum": "off"}
        postgres = stack.enter_context(EmbeddedPostgres(settings=settings))
        broker = stack.enter_context(redis_server()).url
        report.note(
            f"PostgreSQL {postgres.major}, which flushes nothing; Redis; messages are counted, not sent"
        )
        peers = _peers(workshop, postgres, broker, 1)
        ours = _ours(stack, workshop, postgres, broker, 1)
        costs: dict[int, dict[str, Cost]] = {}
        rushes: dict[int, dict[str, Rush]] = {}
        for count in size.counts:
            with timetable_cost.at_rest(ours, count) as (our_costs, _):
                pass
            with ExitStack() as resting:
                if count == RESTING:
                    # started first: the server counts statements some seconds late
                    few, many = (_ours(resting, workshop, postgres, broker, n) for n in (2, 3))
                    _, beats_of_few = resting.enter_context(timetable_cost.at_rest(few, FEW))
                    costs[MANY], beats_of_many = resting.enter_context(timetable_cost.at_rest(many, MANY))
                their_costs, beats = resting.enter_context(timetable_cost.at_rest(peers, count))
                costs[count] = their_costs | our_costs
                if count == RESTING:
                    watch = timetable_idle.Watch(
                        _rows(beats, RESTING) | _rows(beats_of_few, FEW) | _rows(beats_of_many, MANY)
                    )
                    began = time.monotonic()
                    # the quiet measurements run meanwhile, on another set of peers
                    edited, taken, drifts = _waits(_peers(workshop, postgres, broker, 2), ours, size)
                    time.sleep(max(0, size.idle - (time.monotonic() - began)))
                    idle = watch.minute()
            rushes[count] = {side.name: _rush(side, count, size) for side in (*peers, *ours)}
        timetable_cost.print_costs(report, dict(sorted(costs.items())), rushes)
        timetable_waits.print_waits(report, edited, taken, drifts)
        timetable_idle.print_idle(report, idle)
        timetable_import.measure(report, peers[1], ours[0], size.rounds)


Waits = tuple[dict[str, list[float]], dict[str, list[float]], dict[str, float]]


def _waits(peers: tuple[Beat, DjangoCeleryBeat, RedBeat], ours: tuple[Queue, Direct], size: Size) -> Waits:
    """Measure edits, takeovers and drifts."""
    _, django, redbeat = peers
    edited = timetable_waits.edits([django, redbeat], size.edits)
    drifts = timetable_waits.drift([*peers, *ours], size.runs)
    taken = {redbeat.name: [timetable_waits.redbeat_takeover(redbeat)]}
    for side in ours:
        edited[side.name] = timetable_waits.our_edits(side, size.our_edits)
        taken[side.name] = timetable_waits.our_takeovers(side, size.takeovers)
    return edited, taken, drifts


def _rush(side: Side, count: int, size: Size) -> Rush:
    """Return the median rush; of the slow sides the only one."""
    rounds = 1 if isinstance(side, Beat | DjangoCeleryBeat) else size.rounds
    found = [timetable_cost.rush(side, count, size.limit) for _ in range(rounds)]
    return sorted(found, key=lambda rush: rush.seconds)[(rounds - 1) // 2]


def _rows(beats: dict[str, Running], count: int) -> dict[timetable_idle.Row, Running]:
    return {(name, count): beat for name, beat in beats.items()}


def _peers(
    workshop: Workshop, postgres: EmbeddedPostgres, broker: str, number: int
) -> tuple[Beat, DjangoCeleryBeat, RedBeat]:
    """Make a set of peers with stores of their own."""
    return (
        Beat(workshop, broker, f"beat-{number}"),
        DjangoCeleryBeat(workshop, broker, postgres, f"django_{number}"),
        RedBeat(workshop, broker, number),
    )


def _ours(
    stack: ExitStack, workshop: Workshop, postgres: EmbeddedPostgres, broker: str, number: int
) -> tuple[Queue, Direct]:
    """Make a set of ours with databases of their own."""
    sides = (
        Queue(workshop, broker, postgres, f"queue_{number}"),
        Direct(workshop, broker, postgres, f"direct_{number}"),
    )
    for side in sides:
        stack.callback(side.close)
    return sides
