"""The flight of one route: nothing owed is forgotten, nothing flies twice, the window is kept."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgreact.dispatch import flight as flights
from pgreact.dispatch.flight import Flight, Load

WINDOW = 1.0


def test_the_first_signal_is_due_at_once() -> None:
    flight = flights.signalled(Flight(), now=5.0)
    assert flights.due(flight, WINDOW) == 5.0


def test_signals_before_a_publish_coalesce_and_keep_the_first_moment() -> None:
    flight = flights.signalled(flights.signalled(Flight(), now=5.0, signals=2), now=6.0)
    assert flights.begun(flight, now=6.0).carried == Load(signals=3, since=5.0)


def test_a_signal_during_a_publish_is_due_a_window_after_that_publish_began() -> None:
    flight = flights.begun(flights.signalled(Flight(), now=5.0), now=5.0)
    flight = flights.signalled(flight, now=5.1)
    assert flights.due(flight, WINDOW) is None
    assert flights.due(flights.published(flight), WINDOW) == 6.0


def test_a_failed_publish_gives_its_signals_back() -> None:
    flight = flights.begun(flights.signalled(Flight(), now=5.0, signals=3), now=5.0)
    flight = flights.failed(flights.signalled(flight, now=5.2), now=5.5, delay=4.0)
    assert flight.owed == Load(signals=4, since=5.0)
    assert flights.due(flight, WINDOW) == 9.5


def test_a_publish_that_ends_without_having_begun_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="no publish is in hand"):
        flights.published(Flight())
    with pytest.raises(AssertionError, match="nothing is owed"):
        flights.begun(Flight(), now=1.0)


Event = tuple[str, float]
EVENTS = st.lists(
    st.tuples(st.sampled_from(["signal", "time", "published", "failed"]), st.floats(0.001, 2.0)), max_size=60
)


@given(EVENTS)
def test_whatever_happens_each_signal_is_answered_by_one_later_publish(events: list[Event]) -> None:
    flight, now = Flight(), 0.0
    owed: list[float] = []  # signals that no publish has begun to answer since
    carried: list[float] = []
    began: list[float] = []

    def advance() -> None:
        nonlocal flight
        due = flights.due(flight, WINDOW)
        if due is not None and due <= now:
            flight = flights.begun(flight, now)
            began.append(now)
            carried.extend(owed)
            owed.clear()

    for kind, step in [*events, ("published", 0.001), *[("time", 20.0), ("published", 0.001)] * 2]:
        now += step
        if kind == "signal":
            flight = flights.signalled(flight, now)
            owed.append(now)
        elif kind == "published" and flight.carried:
            flight = flights.published(flight)
            carried.clear()
        elif kind == "failed" and flight.carried:
            flight = flights.failed(flight, now, delay=step)
            owed.extend(carried)
            carried.clear()
        advance()
        assert (flight.owed.signals if flight.owed else 0) == len(owed)
        assert (flight.carried.signals if flight.carried else 0) == len(carried)
        assert not owed or flight.carried or flights.due(flight, WINDOW) is not None
    assert not owed
    assert not carried
    assert flight.failures == 0
    assert all(later - earlier >= WINDOW - 1e-9 for earlier, later in itertools.pairwise(began))
    assert math.isinf(flight.retry_at)
