"""How long a dispatch of the queue delays its next claim while all places are taken."""

import pytest

from pgreact.queue.claim_delay import LONGEST, claim_delay


def test_the_next_claim_comes_when_the_workers_took_a_quarter_of_what_waits() -> None:
    # 10 places in 20 ms; 40 wait, which last 80 ms
    assert claim_delay(40, 10, 0.02, None) == pytest.approx(0.02)


def test_fast_workers_are_not_kept_waiting() -> None:
    assert claim_delay(1, 1, 0.01, None) == pytest.approx(0.0025)


def test_slow_workers_do_not_make_it_longer_than_it_may_be() -> None:
    assert claim_delay(500, 1, 10.0, None) == LONGEST


@pytest.mark.parametrize(("due", "seconds"), [(0.01, 0.01), (-3.0, 0.0), (7.0, LONGEST)])
def test_it_ends_when_something_else_is_due(due: float, seconds: float) -> None:
    assert claim_delay(500, 1, 1.0, due) == seconds
