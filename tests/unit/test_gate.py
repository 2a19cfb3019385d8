"""The gate of one route: its holders, its activity, and when notifications come too fast."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgreact.wakeup import gate as gates
from pgreact.wakeup.gate import CLOSED, OPEN, Gate, Meter, Reading

NONE: frozenset[str] = frozenset()


def holders(names: str) -> frozenset[str]:
    """Each letter is a transaction."""
    return frozenset(names)


def reading(value: int, names: str, *, undisturbed: bool = True) -> Reading:
    return Reading(value, holders(names), undisturbed)


# ---- opened: after S was set to OPEN -----------------------------------------------------------------------


def test_a_gate_without_holders_is_open() -> None:
    assert gates.opened(Gate("polling", holders("a"), 5), NONE, 2.0) == Gate("open", NONE, None, 2.0, 2.0)


def test_listed_holders_are_drained() -> None:
    gate = gates.opened(Gate("polling", holders("a"), 5), holders("bc"), 2.0)
    assert gate == Gate("draining", holders("bc"), None, 2.0, 2.0)


def test_a_mode_that_stays_keeps_its_age() -> None:
    assert gates.opened(Gate(since=1.0), NONE, 9.0).since == 1.0
    assert gates.opened(Gate("draining", holders("a"), since=1.0), holders("b"), 9.0).since == 1.0
    assert gates.opened(Gate("polling", since=1.0), NONE, 9.0).since == 9.0


# ---- closing and polling -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [CLOSED, None])
def test_closing_keeps_the_holders_that_were_drained(value: int | None) -> None:
    gate = gates.closed(Gate("draining", holders("a")), value, 3.0)
    assert gate == Gate("polling", holders("a"), value, 3.0, 3.0)


def test_a_gate_is_closed_once() -> None:
    with pytest.raises(AssertionError, match="closed already"):
        gates.closed(Gate("polling"), CLOSED, 0.0)


def test_the_first_poll_finds_writers_that_skipped_since_the_gate_was_closed() -> None:
    gate = gates.closed(Gate(), CLOSED, 0.0)
    assert not gates.activity(gate, reading(CLOSED, "a"))
    assert gates.activity(gate, reading(CLOSED + 1, ""))
    assert gates.activity(gate, reading(OPEN, ""))


@pytest.mark.parametrize(
    ("value", "now_held", "active"),
    [
        (7, "ab", False),  # as it was
        (7, "abc", False),  # a new holder, which moves S when it skips
        (8, "ab", True),  # a writer skipped
        (7, "b", True),  # a holder is gone
        (7, "bc", True),  # a holder is gone, though another came
        (6, "ab", True),  # a sequence made anew: anything but the same counts as moved
    ],
)
def test_a_poll_reports_activity_if_the_sequence_moved_or_a_holder_is_gone(
    value: int, now_held: str, active: bool
) -> None:
    gate = Gate("polling", holders("ab"), 7, since=1.0, active_at=1.0)
    after, found = gates.polled(gate, reading(value, now_held), now=2.0)
    assert found is active
    assert after == Gate("polling", holders(now_held), value, 1.0, 2.0 if active else 1.0)


def test_an_opening_reports_activity_if_a_holder_ended_meanwhile() -> None:
    gate = Gate("polling", holders("ab"), 7)
    assert not gates.activity(gate, reading(7, "abc"))
    assert gates.activity(gate, reading(7, "abc", undisturbed=False))


def test_without_a_reading_of_s_the_next_counts_as_moved() -> None:
    after, active = gates.polled(Gate("polling", NONE, None), reading(0, ""), 1.0)
    assert active
    assert gates.polled(after, reading(0, ""), 2.0)[1] is False


def test_only_a_closed_gate_is_polled_and_only_a_draining_one_drained() -> None:
    for gate in (Gate(), Gate("draining", holders("a"))):
        with pytest.raises(AssertionError, match="only a closed gate"):
            gates.polled(gate, reading(0, ""), 0.0)
    for gate in (Gate(), Gate("polling", holders("a"))):
        with pytest.raises(AssertionError, match="nothing is drained"):
            gates.drained(gate, NONE, 0.0)


# ---- draining ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now_held", "left", "gone"),
    [("ab", "ab", False), ("abc", "ab", False), ("bc", "b", True), ("c", "", True), ("", "", True)],
)
def test_a_drain_follows_the_listed_holders_and_no_later_writer(now_held: str, left: str, gone: bool) -> None:
    gate = Gate("draining", holders("ab"), None, since=1.0, active_at=1.0)
    after, found = gates.drained(gate, holders(now_held), now=2.0)
    assert found is gone
    if left:
        assert after == Gate("draining", holders(left), None, 1.0, 2.0 if gone else 1.0)
    else:
        assert after == Gate("open", NONE, None, 2.0, 2.0)


Names = st.frozensets(st.sampled_from("abcd"))


@given(Names, st.lists(Names, max_size=8))
def test_each_of_those_listed_ends_with_a_signal_whatever_happens_to_the_gate(
    first: frozenset[str], polls: list[frozenset[str]]
) -> None:
    """A name that is gone never comes back: the ids of transactions are not used twice."""
    gate = gates.opened(Gate(), first, 0.0)
    alive = first
    for at, poll in enumerate([*polls, NONE], 1):
        held = poll & alive
        ended, alive = alive - held, held
        if gate.mode == "open":
            assert not ended
            continue
        if at % 3 == 0 and gate.mode == "draining":
            gate = gates.closed(gate, CLOSED, at)
        if gate.mode == "polling":
            gate, active = gates.polled(gate, Reading(CLOSED, held), at)
        else:
            gate, active = gates.drained(gate, held, at)
        assert active is bool(ended)
        assert gate.holders == held


# ---- meter -------------------------------------------------------------------------------------------------


def test_a_burst_is_busy_with_the_first_beyond_the_rate() -> None:
    meter = Meter()
    rate = 40.0
    assert [meter.exceeds(rate, 1.0) for _ in range(12)] == [False] * 10 + [True] * 2


def test_the_same_number_spread_out_is_not() -> None:
    meter = Meter()
    assert not any(meter.exceeds(40.0, 1.0 + number / 39) for number in range(500))


def test_each_period_begins_with_a_notification_and_counts_anew() -> None:
    meter = Meter()
    assert [meter.exceeds(8.0, at) for at in (1.0, 1.1, 1.3, 1.3, 1.3)] == [False, False, False, False, True]
    assert not meter.exceeds(8.0, 1.3 + Meter.PERIOD + 0.001)


def test_a_reset_meter_counts_from_zero() -> None:
    meter = Meter()
    assert [meter.exceeds(8.0, 1.0) for _ in range(3)] == [False, False, True]
    meter.reset()
    assert [meter.exceeds(8.0, 1.0) for _ in range(3)] == [False, False, True]


def test_a_rate_below_one_a_period_is_busy_at_once() -> None:
    assert Meter().exceeds(1.0, 100.0)
