"""Import django-celery-beat's entries into an empty timetable."""

import statistics
import time

import psycopg

from benchmarks.report import Report
from benchmarks.timetable_entries import idle
from benchmarks.timetable_ours import Ours
from benchmarks.timetable_sides import DjangoCeleryBeat
from pgreact.errors import PgreactError
from pgreact.timetable.importers import django, upsert

ENTRIES = 10_000
BAR = 0.5  # seconds


def measure(report: Report, source: DjangoCeleryBeat, target: Ours, rounds: int) -> None:
    """Import ``rounds`` times, and print the time from the first read of the tables to the commit."""
    source.store(idle(ENTRIES))
    took = statistics.median(_carry(source, target) for _ in range(rounds))
    report.bar(f"import of {ENTRIES:,} from django-celery-beat", took, BAR, " s")


def _carry(source: DjangoCeleryBeat, target: Ours) -> float:
    target.store([])
    with psycopg.connect(source.dsn) as theirs:
        began = time.monotonic()
        report = upsert.write(target.connection, django.read(theirs), "sql")
        took = time.monotonic() - began
    if len(report.added) != ENTRIES:
        raise PgreactError(f"{len(report.added)} of {ENTRIES} entries were carried: {report.skipped[:1]}")
    return took
