"""The demo's measurements and summary, from made-up events."""

import dataclasses
import math

from pgreact.demo.journal import Entry
from pgreact.demo.producer import Attempt, Commit
from pgreact.demo.queue_scene import chart, most_at_once, refills
from pgreact.demo.report import QueueUse, Report, Takeover, lines, percentile

TAKEOVER = Takeover(0.0, "daemon B", 0.02, 0.05)
KEPT = QueueUse([0.01], places=2, most=2, rolled_back=True, survived=True)


def _published(at: float, publish_ms: float = 2.0) -> Entry:
    return Entry(at, "daemon A", "dispatch.published", {"publish_ms": publish_ms, "signals": 1})


def test_publish_that_began_before_a_commit_does_not_answer_it() -> None:
    commit = Commit(10.000, (1,))
    report = Report([commit], [_published(10.001, publish_ms=5.0), _published(10.1)], {}, TAKEOVER, KEPT)

    assert [round(seconds, 6) for seconds in report.to_dispatch()] == [0.1]


def test_jobs_of_a_burst_do_not_count_as_single_jobs() -> None:
    done = {1: (10.5, 10.6), 2: (20.25, 20.3), 3: (20.75, 20.8)}
    report = Report([Commit(10.0, (1,)), Commit(20.0, (2, 3))], [], done, TAKEOVER, KEPT)

    assert report.to_start() == [0.5, 0.25, 0.75]
    assert report.to_start(alone=True) == [0.5]


def test_report_passes_only_with_all_jobs_done() -> None:
    commits = [Commit(10.0, (1, 2))]

    assert not Report(commits, [], {1: (10.5, 10.6)}, TAKEOVER, KEPT).passed
    assert Report(commits, [], {1: (10.5, 10.6), 2: (10.5, 10.6)}, TAKEOVER, KEPT).passed


def test_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(100, 0, -1)]

    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile([7.0], 0.99) == 7
    assert math.isnan(percentile([], 0.5))


def test_summary_is_printed_without_measurements() -> None:
    shown = "\n".join(lines(Report([], [], {}, TAKEOVER, KEPT), limit=4, window=0.1))

    assert "jobs done           0 of 0" in shown
    assert "20.0 ms from kill -9" in shown


def test_report_passes_only_if_the_queue_keeps_its_promises() -> None:
    for broken in ({"most": 3}, {"most": 0}, {"rolled_back": False}, {"survived": False}):
        assert not Report([], [], {}, TAKEOVER, dataclasses.replace(KEPT, **broken)).passed


def test_summary_reports_the_queue() -> None:
    def row(use: QueueUse) -> str:
        shown = lines(Report([], [], {}, TAKEOVER, use), limit=4, window=0.1)
        return next(line for line in shown if line.startswith("built-in queue"))

    assert "commit → start p50 10.0 ms; 2 of 2 places, never more" in row(KEPT)
    broken = row(QueueUse([], places=2, most=3, rolled_back=False, survived=False))
    assert "3 of 2 places, TOO MANY; A ROLLBACK LEFT A JOB; A KILLED JOB DID NOT RUN AGAIN" in broken


def _lane(*spans: tuple[float, float]) -> list[Attempt]:
    return [Attempt(job, 1, "done", begin, begin, end) for job, (begin, end) in enumerate(spans, 1)]


def test_job_that_ends_when_another_is_claimed_is_not_in_progress_with_it() -> None:
    assert most_at_once([]) == 0
    assert most_at_once([(0, 2), (2, 3), (3, 4)]) == 1
    assert most_at_once([(0, 2), (1, 3), (2, 4), (2.5, 2.75)]) == 3


def test_free_place_is_filled_by_the_next_claim() -> None:
    assert refills(_lane((0, 2), (0, 3), (2.5, 5), (3.25, 6)), places=2) == [0.5, 0.25]


def test_chart_shows_waiting_jobs_and_jobs_in_progress() -> None:
    assert chart(_lane((10, 12), (12, 14)), zero=10, columns=4) == ["job 1  ██", "job 2  ··██"]
