"""``timetable``, with 100 000 entries on each side, and time for all to send due entries."""

from benchmarks import timetable
from benchmarks.report import Report


def run(report: Report, *, quick: bool) -> None:
    """Run the bench."""
    timetable.measure(report, timetable.QUICK if quick else timetable.WHOLE)
