"""The flight of one route: nothing owed is forgotten, nothing flies twice, the window is kept."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgreact.dispatch import flight as flights
from pgreact.dispatch.flight import Flight, SignalBatch

WINDOW = 1.0


def begun(now: float = 5.0, signals: int = 1, expires: float = math.inf) -> Flight:
    """A flight whose publish is in hand."""
    return flights.publish_began(flights.signalled(Flight(), now, signals), now, "m1", expires)


def in_flight(expires: float = 10.0) -> Flight:
    """A flight whose message is out, and which lasts as long as its run."""
    return flights.published(begun(expires=expires), follow=True)


def test_the_first_signal_is_due_at_once() -> None:
    flight = flights.signalled(Flight(), now=5.0)
    assert flights.due(flight, WINDOW) == 5.0


def test_signals_before_a_publish_coalesce_and_keep_the_first_moment() -> None:
    flight = flights.signalled(flights.signalled(Flight(), now=5.0, signals=2), now=6.0)
    assert flights.publish_began(flight, 6.0, "m1").publishing == SignalBatch(signals=3, since=5.0)


def test_a_signal_during_a_publish_is_due_a_window_after_that_publish_began() -> None:
    flight = flights.signalled(begun(), now=5.1)
    assert flights.due(flight, WINDOW) is None
    assert flights.due(flights.published(flight, follow=False), WINDOW) == 6.0


def test_a_failed_publish_gives_its_signals_back() -> None:
    flight = flights.publish_failed(flights.signalled(begun(signals=3), now=5.2), now=5.5, delay=4.0)
    assert flight.pending == SignalBatch(signals=4, since=5.0)
    assert flights.due(flight, WINDOW) == 9.5


def test_a_publish_that_ends_without_having_begun_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="no publish is in hand"):
        flights.published(Flight(), follow=False)
    with pytest.raises(AssertionError, match="no signal is pending"):
        flights.publish_began(Flight(), 1.0, "m1")
    with pytest.raises(AssertionError, match="a flight is under way"):
        flights.publish_began(flights.signalled(in_flight(), now=6.0), 6.0, "m2")


def test_a_signal_during_a_run_waits_for_its_end() -> None:
    flight = flights.signalled(flights.run_started(in_flight(), "m1"), now=7.0)
    assert flights.due(flight, WINDOW) is None
    assert flights.due(flights.run_ended(flight, "m1"), WINDOW) == 7.0


def test_the_end_of_another_run_ends_nothing() -> None:
    assert flights.run_ended(in_flight(), "m2").in_flight is not None
    assert not flights.run_started(in_flight(), "m2").in_flight.started  # type: ignore[union-attr]


def test_an_end_may_be_told_before_the_broker_confirms() -> None:
    flight = flights.run_ended(flights.run_started(begun(), "m1"), "m1")
    assert flight.publishing is not None
    assert flights.published(flight, follow=True).in_flight is None


def test_a_dropped_message_leaves_its_signals_owed_for_a_little_later() -> None:
    flight = flights.message_dropped(in_flight(), "m1", now=6.0, delay=0.5)
    assert flight.in_flight is None
    assert flights.due(flight, 0.1) == 6.5


def test_a_run_without_a_word_is_lost_only_when_two_looks_find_nobody() -> None:
    flight = flights.run_started(in_flight(), "m1")
    flight, outcome = flights.locks_read(flight, 6.0, held=False)
    assert outcome is None
    flight, outcome = flights.locks_read(flight, 6.5, held=True)
    flight, outcome = flights.locks_read(flight, 7.0, held=False)
    assert outcome is None
    flight, outcome = flights.locks_read(flight, 7.5, held=False)
    assert outcome == "lost"
    assert flights.due(flight, WINDOW) == 7.5


def test_a_message_is_expired_only_when_no_worker_may_begin_it_any_more() -> None:
    flight = in_flight(expires=10.0)
    for _ in range(3):
        flight, outcome = flights.locks_read(flight, 14.9, held=False)
        assert outcome is None
    flight, outcome = flights.locks_read(flight, 15.0, held=False)
    flight, outcome = flights.locks_read(flight, 15.5, held=False)
    assert outcome == "expired"
    assert flight.pending is not None


Event = tuple[str, float]
KINDS = ["signal", "time", "published", "failed", "started", "done", "dropped", "look-held", "look-free"]
EVENTS = st.lists(st.tuples(st.sampled_from(KINDS), st.floats(0.001, 2.0)), max_size=60)


@given(events=EVENTS, follow=st.booleans())
def test_whatever_happens_each_signal_is_answered_by_one_later_publish(
    events: list[Event], *, follow: bool
) -> None:
    """A signal is answered by a publish that began later and whose run, if followed, was not given up."""
    flight, now = Flight(), 0.0
    unanswered = 0  # signals since the last publish began, and those of a flight that came to nothing
    began: list[float] = []
    ends = [("published", 0.001), ("started", 0.001), ("done", 0.001), ("time", 20.0)]
    for number, (kind, step) in enumerate([*events, *ends * 3]):
        now += step
        message = flight.in_flight.task_id if flight.in_flight else ""
        over, publishing = flight.in_flight is not None, flight.publishing
        if kind == "signal":
            flight = flights.signalled(flight, now)
            unanswered += 1
        elif kind == "published" and publishing:
            flight = flights.published(flight, follow=follow)
        elif kind == "failed" and publishing:
            flight = flights.publish_failed(flight, now, delay=step)
            unanswered += publishing.signals
        elif kind == "started":
            flight = flights.run_started(flight, message)
        elif kind == "done":
            flight = flights.run_ended(flight, message)
        elif kind == "dropped" and over and not publishing:
            flight = flights.message_dropped(flight, message, now, delay=step)
            unanswered += 1
        elif kind.startswith("look"):
            flight, outcome = flights.locks_read(flight, now, held=kind == "look-held")
            unanswered += outcome is not None
        due = flights.due(flight, WINDOW)
        if due is not None and due <= now:
            flight = flights.publish_began(flight, now, f"m{number}", 5.0)
            began.append(now)
            unanswered = 0
        assert (flight.pending.signals if flight.pending else 0) == unanswered
        assert not unanswered or flight.in_flight or flights.due(flight, WINDOW) is not None
    assert not unanswered
    assert flight.failures == 0
    assert all(later - earlier >= WINDOW - 1e-9 for earlier, later in itertools.pairwise(began))
