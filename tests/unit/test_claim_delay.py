"""How long a dispatch of the queue delays its next claim while places are taken, and how soon it claims."""

import pytest

from pgreact.queue.claim_delay import LONGEST, SOON, SOON_FOR, claim_delay, until_place


def test_the_next_claim_comes_when_the_workers_took_a_quarter_of_what_waits() -> None:
    # 10 places in 20 ms; 40 wait, which last 80 ms
    assert claim_delay(40, 10, 0.02, None) == pytest.approx(0.02)


def test_fast_workers_shorten_the_delay() -> None:
    assert claim_delay(1, 1, 0.01, None) == pytest.approx(0.0025)


def test_slow_workers_delay_a_claim_no_longer_than_the_maximum() -> None:
    assert claim_delay(500, 1, 10.0, None) == LONGEST


@pytest.mark.parametrize(("due", "seconds"), [(0.01, 0.01), (-3.0, 0.0), (7.0, LONGEST)])
def test_the_delay_ends_when_something_else_is_due(due: float, seconds: float) -> None:
    assert claim_delay(500, 1, 1.0, due) == seconds


@pytest.mark.parametrize(("idle", "seconds"), [(0.0, SOON), (0.019, SOON), (SOON_FOR, None), (60.0, None)])
def test_idle_places_are_claimed_for_soon_until_a_poll_would_find_them(
    idle: float, seconds: float | None
) -> None:
    assert until_place(idle) == seconds
