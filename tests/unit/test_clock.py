"""Back-off: doubling, capped, jittered."""

import pytest

from pgreact.clock import Clock


class Dice(Clock):
    def __init__(self, jitter: float) -> None:
        self._jitter = jitter

    def jitter(self) -> float:
        return self._jitter


@pytest.mark.parametrize(("failures", "delay"), [(1, 0.1), (2, 0.2), (3, 0.4), (7, 5.0), (10_000, 5.0)])
def test_the_delay_doubles_up_to_its_cap(failures: int, delay: float) -> None:
    assert Dice(1.0).backoff(failures, base=0.1, cap=5.0) == pytest.approx(delay)


def test_at_most_half_of_the_delay_is_random() -> None:
    assert Dice(0.0).backoff(1, base=0.1, cap=5.0) == pytest.approx(0.05)
