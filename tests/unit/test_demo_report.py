"""The demo's numbers say what they claim to say."""

import math

from pgreact.demo.journal import Entry
from pgreact.demo.producer import Commit
from pgreact.demo.report import Report, Takeover, lines, percentile

NOBODY = Takeover(0.0, "listener B", 0.02, 0.05)


def _published(at: float, publish_ms: float = 2.0) -> Entry:
    return Entry(at, "listener A", "dispatch.published", {"publish_ms": publish_ms, "signals": 1})


def test_a_publish_that_began_before_the_commit_does_not_answer_it() -> None:
    commit = Commit(10.000, (1,))
    report = Report([commit], [_published(10.001, publish_ms=5.0), _published(10.1)], {}, NOBODY)

    assert [round(seconds, 6) for seconds in report.to_dispatch()] == [0.1]


def test_jobs_of_a_burst_do_not_count_as_alone() -> None:
    done = {1: (10.5, 10.6), 2: (20.25, 20.3), 3: (20.75, 20.8)}
    report = Report([Commit(10.0, (1,)), Commit(20.0, (2, 3))], [], done, NOBODY)

    assert report.to_start() == [0.5, 0.25, 0.75]
    assert report.to_start(alone=True) == [0.5]


def test_it_passes_only_with_all_jobs_done() -> None:
    commits = [Commit(10.0, (1, 2))]

    assert not Report(commits, [], {1: (10.5, 10.6)}, NOBODY).passed
    assert Report(commits, [], {1: (10.5, 10.6), 2: (10.5, 10.6)}, NOBODY).passed


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(100, 0, -1)]

    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile([7.0], 0.99) == 7
    assert math.isnan(percentile([], 0.5))


def test_the_summary_stands_even_where_nothing_was_measured() -> None:
    shown = "\n".join(lines(Report([], [], {}, NOBODY), limit=4, window=0.1))

    assert "jobs done           0 of 0" in shown
    assert "20.0 ms from kill -9" in shown
