"""Claims of the queue alone: with many rows, with a key and with limits that hold most of them back."""

from benchmarks import queue_claims, queue_contention
from benchmarks.report import Report


def run(report: Report, *, quick: bool) -> None:
    """Measure, and print the results."""
    queue_claims.run(report, quick=quick)
    queue_contention.run(report, quick=quick)
