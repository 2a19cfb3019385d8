"""Latencies: of an edit, of a takeover; and the drift of runs."""

import random
import signal
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from benchmarks.report import Report, ms, percentile
from benchmarks.timetable_entries import each_second, idle, overdue, ten_a_second, waiting
from benchmarks.timetable_ours import Direct, Ours, Queue
from benchmarks.timetable_sides import Editable, RedBeat, Running, Side

LOOP = 5.0  # seconds: what django-celery-beat has by default, for both
ENTRIES = 1000
PAUSE = (0.005, 0.05)  # seconds from the message of one of our edits to the next
EDIT_BAR = 0.02  # seconds
TAKEOVER_BAR = 1.0  # seconds
SETTLING = 2  # runs
FIRST = 1


def edits(sides: Sequence[Editable], count: int) -> dict[str, list[float]]:
    """Make entries due one by one, at random moments; return the seconds until each was sent."""
    numbers = range(FIRST + 1, FIRST + 1 + count)
    found: dict[str, list[float]] = {side.name: [] for side in sides}
    with ExitStack() as stack:
        beats = {}
        for side in sides:
            side.store([*idle(ENTRIES), overdue(FIRST), *map(waiting, numbers)])
            beats[side.name] = stack.enter_context(side.running(loop=LOOP))
            beats[side.name].sent(FIRST)
        for number in numbers:
            time.sleep(random.uniform(0, LOOP))
            edited = {side.name: side.hurry(waiting(number)) for side in sides}
            for name, at in edited.items():
                found[name].append(beats[name].sent(number) - at)
    return found


def our_edits(side: Ours, count: int) -> list[float]:
    """Make entries due, or add due ones; return the seconds until each was sent, commit included."""
    numbers = range(FIRST + 1, FIRST + 1 + count)
    side.store([*idle(ENTRIES), overdue(FIRST), *map(waiting, numbers[::2])])
    found = []
    with side.running() as running:
        running.sent(FIRST)
        for number in random.sample(numbers, count):
            time.sleep(random.uniform(*PAUSE))
            began = time.monotonic()
            if number in numbers[::2]:
                side.hurry(waiting(number))
            else:
                side.insert(waiting(number))
            found.append(running.sent(number) - began)
    return found


def our_takeovers(side: Ours, count: int) -> list[float]:
    """Kill the leader ``count`` times; return the seconds until another sends an entry of 0.1 s."""
    side.store([*idle(ENTRIES), ten_a_second(FIRST)])
    found = []
    with ExitStack() as stack:
        leader = stack.enter_context(side.running(may_end=True))
        leader.sent(FIRST)
        for _ in range(count):
            standby = stack.enter_context(side.running(may_end=True))
            side.wait_for_standby()
            leader.process.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            found.append(standby.sent(FIRST) - killed)
            leader = standby
    return found


def drift(sides: Sequence[Side], runs: int) -> dict[str, float]:
    """Run an entry each second; return by how much two runs are further apart, in seconds."""
    with ExitStack() as stack:
        beats = []
        for side in sides:
            side.store([*idle(ENTRIES), each_second(FIRST)])
            beats.append(stack.enter_context(side.running()))
        # all at once: a side whose reports are not read soon blocks
        with ThreadPoolExecutor(len(beats)) as readers:
            found = readers.map(lambda beat: _drift(beat, runs), beats)
            return {side.name: seconds for side, seconds in zip(sides, found, strict=True)}


def redbeat_takeover(side: RedBeat) -> float:
    """Kill the holder of the lock; return the seconds until the other sends an entry of 1 s."""
    side.store([*idle(ENTRIES), each_second(FIRST)])
    with side.running(loop=LOOP, may_end=True) as leader:
        leader.sent(FIRST)
        with side.running(loop=LOOP) as standby:
            # once it waits for the lock
            time.sleep(1)
            leader.process.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            return standby.sent(FIRST) - killed


def print_waits(
    report: Report,
    edited: Mapping[str, Sequence[float]],
    taken: Mapping[str, Sequence[float]],
    drifts: Mapping[str, float],
) -> None:
    """Print a table, with a dash for what a side cannot do, and compare ours with their bars."""
    report.table(
        "waits, s",
        ["edit → sent p50", "p99", "kill -9 → sent p50", "p99", "drift, ms/run"],
        [
            (
                name,
                [
                    *_cells(edited.get(name)),
                    *_cells(taken.get(name)),
                    ms(drifts[name]) if name in drifts else "-",
                ],
            )
            for name in dict.fromkeys([*edited, *taken, *drifts])
        ],
    )
    edit = percentile(edited[Direct.name], 99) * 1000
    report.bar(f"{Direct.name}: edit → sent p99", edit, EDIT_BAR * 1000, " ms")
    for name in (Queue.name, Direct.name):
        report.bar(f"{name}: kill -9 → sent p99", percentile(taken[name], 99), TAKEOVER_BAR, " s")


def _drift(beat: Running, runs: int) -> float:
    times = [beat.sent(FIRST) for _ in range(SETTLING + runs + 1)][SETTLING:]
    return (times[-1] - times[0]) / runs - 1


def _cells(sample: Sequence[float] | None) -> list[str]:
    if not sample:
        return ["-", "-"]
    return [f"{statistics.median(sample):.4f}", f"{percentile(sample, 99):.4f}"]
