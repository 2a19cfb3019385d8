"""The gate of one route: who is followed, what counts as a change, and when notifications come too fast."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgreact.wakeup import gate as gates
from pgreact.wakeup.gate import OPEN, SHUT, Gate, Meter, Seen

NOBODY: frozenset[str] = frozenset()


def holders(names: str) -> frozenset[str]:
    """Each letter is a transaction."""
    return frozenset(names)


def seen(height: int, names: str, *, alone: bool = True) -> Seen:
    return Seen(height, holders(names), alone)


# ---- listed: after S was set open --------------------------------------------------------------------------


def test_nobody_to_wait_for_is_an_open_gate() -> None:
    assert gates.listed(Gate("polling", holders("a"), 5), NOBODY, 2.0) == Gate("open", NOBODY, None, 2.0, 2.0)


def test_whoever_was_listed_is_drained() -> None:
    gate = gates.listed(Gate("polling", holders("a"), 5), holders("bc"), 2.0)
    assert gate == Gate("draining", holders("bc"), None, 2.0, 2.0)


def test_a_mode_that_stays_keeps_its_age() -> None:
    assert gates.listed(Gate(since=1.0), NOBODY, 9.0).since == 1.0
    assert gates.listed(Gate("draining", holders("a"), since=1.0), holders("b"), 9.0).since == 1.0
    assert gates.listed(Gate("polling", since=1.0), NOBODY, 9.0).since == 9.0


# ---- closing and polling -----------------------------------------------------------------------------------


@pytest.mark.parametrize("height", [SHUT, None])
def test_closing_keeps_whoever_was_being_drained(height: int | None) -> None:
    gate = gates.closing(Gate("draining", holders("a")), height, 3.0)
    assert gate == Gate("polling", holders("a"), height, 3.0, 3.0)


def test_a_gate_is_closed_once() -> None:
    with pytest.raises(AssertionError, match="closed already"):
        gates.closing(Gate("polling"), SHUT, 0.0)


def test_the_first_poll_finds_who_moved_s_since_it_was_set_shut() -> None:
    gate = gates.closing(Gate(), SHUT, 0.0)
    assert not gates.stirred(gate, seen(SHUT, "a"))
    assert gates.stirred(gate, seen(SHUT + 1, ""))
    assert gates.stirred(gate, seen(OPEN, ""))


@pytest.mark.parametrize(
    ("height", "now_held", "stirred"),
    [
        (7, "ab", False),  # as it was
        (7, "abc", False),  # somebody came, and moves S when he skips
        (8, "ab", True),  # somebody skipped
        (7, "b", True),  # somebody is gone
        (7, "bc", True),  # gone, whoever came instead
        (6, "ab", True),  # a sequence made anew: anything but the same counts as moved
    ],
)
def test_a_poll_is_stirred_by_s_that_moved_or_a_holder_gone(
    height: int, now_held: str, stirred: bool
) -> None:
    gate = Gate("polling", holders("ab"), 7, since=1.0, stirred=1.0)
    after, found = gates.polled(gate, seen(height, now_held), now=2.0)
    assert found is stirred
    assert after == Gate("polling", holders(now_held), height, 1.0, 2.0 if stirred else 1.0)


def test_an_opening_is_stirred_too_if_somebody_ended_meanwhile() -> None:
    gate = Gate("polling", holders("ab"), 7)
    assert not gates.stirred(gate, seen(7, "abc"))
    assert gates.stirred(gate, seen(7, "abc", alone=False))


def test_without_a_reading_of_s_the_next_counts_as_moved() -> None:
    after, stirred = gates.polled(Gate("polling", NOBODY, None), seen(0, ""), 1.0)
    assert stirred
    assert gates.polled(after, seen(0, ""), 2.0)[1] is False


def test_only_a_closed_gate_is_polled_and_only_a_draining_one_drained() -> None:
    for gate in (Gate(), Gate("draining", holders("a"))):
        with pytest.raises(AssertionError, match="only a closed gate"):
            gates.polled(gate, seen(0, ""), 0.0)
    for gate in (Gate(), Gate("polling", holders("a"))):
        with pytest.raises(AssertionError, match="nothing is drained"):
            gates.drained(gate, NOBODY, 0.0)


# ---- draining ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now_held", "left", "gone"),
    [("ab", "ab", False), ("abc", "ab", False), ("bc", "b", True), ("c", "", True), ("", "", True)],
)
def test_a_drain_follows_those_listed_and_nobody_who_came_since(now_held: str, left: str, gone: bool) -> None:
    gate = Gate("draining", holders("ab"), None, since=1.0, stirred=1.0)
    after, found = gates.drained(gate, holders(now_held), now=2.0)
    assert found is gone
    if left:
        assert after == Gate("draining", holders(left), None, 1.0, 2.0 if gone else 1.0)
    else:
        assert after == Gate("open", NOBODY, None, 2.0, 2.0)


Names = st.frozensets(st.sampled_from("abcd"))


@given(Names, st.lists(Names, max_size=8))
def test_each_of_those_listed_ends_with_a_signal_whatever_happens_to_the_gate(
    first: frozenset[str], looks: list[frozenset[str]]
) -> None:
    """A name that is gone never comes back: the ids of transactions are not used twice."""
    gate = gates.listed(Gate(), first, 0.0)
    alive = first
    for at, look in enumerate([*looks, NOBODY], 1):
        held = look & alive
        ended, alive = alive - held, held
        if gate.mode == "open":
            assert not ended
            continue
        if at % 3 == 0 and gate.mode == "draining":
            gate = gates.closing(gate, SHUT, at)
        if gate.mode == "polling":
            gate, stirred = gates.polled(gate, Seen(SHUT, held), at)
        else:
            gate, stirred = gates.drained(gate, held, at)
        assert stirred is bool(ended)
        assert gate.holders == held


# ---- meter -------------------------------------------------------------------------------------------------


def test_a_burst_is_busy_with_the_first_beyond_the_rate() -> None:
    meter = Meter()
    rate = 40.0
    assert [meter.busy(rate, 1.0) for _ in range(12)] == [False] * 10 + [True] * 2


def test_the_same_number_spread_out_is_not() -> None:
    meter = Meter()
    assert not any(meter.busy(40.0, 1.0 + number / 39) for number in range(500))


def test_each_period_begins_with_a_notification_and_counts_anew() -> None:
    meter = Meter()
    assert [meter.busy(8.0, at) for at in (1.0, 1.1, 1.3, 1.3, 1.3)] == [False, False, False, False, True]
    assert not meter.busy(8.0, 1.3 + Meter.PERIOD + 0.001)


def test_what_is_forgotten_does_not_count() -> None:
    meter = Meter()
    assert [meter.busy(8.0, 1.0) for _ in range(3)] == [False, False, True]
    meter.forget()
    assert [meter.busy(8.0, 1.0) for _ in range(3)] == [False, False, True]


def test_a_rate_below_one_a_period_is_busy_at_once() -> None:
    assert Meter().busy(1.0, 100.0)
