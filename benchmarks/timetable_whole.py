"""``timetable``, with 100 000 entries on every side, and time for all to send what is due."""

from benchmarks import timetable
from benchmarks.report import Report


def run(report: Report, *, quick: bool) -> None:
    """Measure all, and print it."""
    timetable.measure(report, timetable.QUICK if quick else timetable.WHOLE)
