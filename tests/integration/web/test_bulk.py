"""Runs of an action on many jobs: batches, rows that others keep locked, the end of a process."""

from collections.abc import Iterator

import pytest

from pgreact.errors import PgreactError
from pgreact.queue.redaction import Redaction
from pgreact.web import bulk, job_search
from pgreact.web.bulk import ACTIONS, Preview, Run, Runs, preview
from pgreact.web.database import Database
from pgreact.web.job_filter import parse_filter
from tests.harness import eventually
from tests.queue_steps import Queue


@pytest.fixture
def database(steps: Queue) -> Iterator[Database]:
    found = Database(steps.dsn)
    yield found
    found.close()


def seen(database: Database, action: str, **fields: str) -> Preview:
    with database.reading() as connection:
        return preview(connection, ACTIONS[action], parse_filter(fields, Redaction({})), [])


def ran(database: Database, found: Preview) -> Run:
    run = Runs(database).start(found.action, found.wanted, [], found.count, "ann")
    eventually(lambda: run.finished, "the run has ended")
    return run


def test_run_goes_on_through_batches_and_ranges(
    steps: Queue, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH", 4)
    monkeypatch.setattr(job_search, "RANGE", 6)
    for number in range(30):
        steps.add("even" if number % 2 == 0 else "odd")
    found = seen(database, "cancel", task="even")
    assert (found.count, found.exact) == (15, True)
    run = ran(database, found)
    assert (run.done, run.unmatched, run.error) == (15, 0, None)
    assert steps.value("select count(*) from pgreact.queue") == 15


def test_run_passes_over_a_row_that_another_transaction_keeps_locked(
    steps: Queue, database: Database
) -> None:
    jobs = [steps.add() for _ in range(3)]
    found = seen(database, "cancel")
    with steps.connect(autocommit=False) as other:
        other.execute("select from pgreact.queue where id = %s for update", (jobs[1],))
        run = ran(database, found)
    assert (run.done, run.unmatched, run.error) == (2, 1, None)
    assert steps.state(jobs[1]) == "ready"


def test_running_jobs_are_told_apart_in_the_result(steps: Queue, database: Database) -> None:
    running = steps.add(max_attempts="3")
    steps.claim()
    steps.start(running)
    steps.add()
    run = ran(database, seen(database, "cancel"))
    assert (run.done, run.started, run.unmatched) == (1, 1, 0)


def test_job_that_dies_after_the_preview_stays_dead(steps: Queue, database: Database) -> None:
    later = steps.add()
    found = seen(database, "discard")
    steps.claim()
    steps.start(later)
    steps.settle(later, "failed", "E")
    ran(database, found)
    assert steps.state(later) == "failed"


def test_preview_says_that_it_has_not_counted_all(
    steps: Queue, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "COUNTED", 5)
    for _ in range(8):
        steps.add()
    found = seen(database, "cancel")
    assert (found.count, found.exact) == (5, False)
    assert ran(database, found).done == 8


def test_two_runs_at_once_are_enough(steps: Queue, database: Database) -> None:
    blocked = steps.add()
    found = seen(database, "cancel")
    runs = Runs(database)
    with steps.connect(autocommit=False) as other:
        other.execute("select from pgreact.queue where id = %s for update", (blocked,))
        started = [runs.start(found.action, found.wanted, [], 1, "ann") for _ in range(2)]
        with pytest.raises(PgreactError, match="2 actions on many jobs run already"):
            runs.start(found.action, found.wanted, [], 1, "ann")
    for run in started:
        eventually(lambda run=run: run.finished, "the run has ended")
