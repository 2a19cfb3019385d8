"""The models of gate, flight and bundles, in every interleaving. Mirror images of equal actors count once.

A wrong rule must be found: each test of one prints the steps to the error, and `-rP` shows them.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.model import bundle, flight, gate
from tests.model.checker import Result, check, stranded

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def explore(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result[Any]]:
    """Explore a model with one rule changed, and print the number of states."""

    def run(model: Any, actors: int, **changes: bool) -> Result[Any]:
        rules = replace(model.RIGHT, **changes)
        start = model.initial(actors, rules)
        result = check(start, partial(model.steps, rules=rules), model.wrong)
        headline, *story = str(result).splitlines()
        with capsys.disabled():
            sys.stdout.write(f"\n  {request.node.name}: {headline}")
        sys.stdout.write("\n".join([headline, *story]))
        return result

    return run


# The gate


def test_no_interleaving_of_three_writers_and_the_gate_loses_a_wakeup(
    explore: Callable[..., Result[Any]],
) -> None:
    assert explore(gate, 3).why is None


def test_the_gate_always_comes_to_rest(explore: Callable[..., Result[Any]]) -> None:
    assert stranded(explore(gate, 2), gate.steps, gate.calm, gate.CHANCE) == []


def test_a_gate_closed_for_good_loses_nothing_and_never_notifies(explore: Callable[..., Result[Any]]) -> None:
    result = explore(gate, 2, closed=True)
    assert result.why is None
    assert not any(state.pending for state in result.parents)


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param("lock_before_number", id="the lock is taken after the number"),
        pytest.param("s_before_holders", id="holders are read before S"),
        pytest.param("signal_after_both_reads", id="a poll signals between its two reads"),
        pytest.param("set_value_is_baseline", id="the first reading after closing is the baseline"),
        pytest.param("drain_on_opening", id="no drain on opening"),
        pytest.param("open_before_list", id="holders are listed before S is set"),
        pytest.param("compare_snapshots", id="opening does not compare snapshots"),
        pytest.param("snapshot_before_s", id="the first snapshot comes after S is read"),
        pytest.param("snapshot_after_list", id="the second snapshot comes before the list"),
        pytest.param("xids", id="a writer that skips has no transaction id"),
        pytest.param("open_on_election", id="an elected leader leaves the gate closed"),
        pytest.param("open_before_list_on_election", id="an elected leader lists before it sets S"),
        pytest.param("list_before_sweep", id="an elected leader sweeps before it lists"),
        pytest.param("drain_on_election", id="no drain on election"),
        pytest.param("fenced", id="a deposed leader sets S"),
        pytest.param("listen_before_sweep", id="LISTEN comes after the first sweep"),
        pytest.param("sweep_on_reconnect", id="no sweep after a lost listener"),
    ],
)
def test_one_wrong_rule_of_the_gate_loses_a_wakeup(explore: Callable[..., Result[Any]], rule: str) -> None:
    assert explore(gate, 1, **{rule: False}).why == "wake-up lost"


def test_rollbacks_cause_no_dispatch_while_the_gate_is_open(explore: Callable[..., Result[Any]]) -> None:
    rules = replace(gate.RIGHT, commits=False)
    seen = explore(gate, 2, commits=False).parents
    causes = {
        (before.leader, label)
        for before in seen
        for label, after in gate.steps(before, rules)
        if after.dirty and not before.dirty and label != "listener reconnects"
    }
    assert causes == {
        ("listed", "leader sweeps"),
        *((f"listed{hit}", "leader takes snapshot B") for hit in "+-"),
        ("draining", "leader sees a holder gone"),  # a writer that the closed gate had left behind
        ("S moved", "leader lists holders"),  # a poll: one mark, one dispatch
        ("S same", "leader lists holders"),
    }


# The flight


@pytest.mark.parametrize("workers", [2, 3])
def test_one_worker_runs_one_waits_and_no_wakeup_is_lost_whichever_dies(
    explore: Callable[..., Result[Any]], workers: int
) -> None:
    assert explore(flight, workers).why is None


def test_the_flight_always_comes_to_rest(explore: Callable[..., Result[Any]]) -> None:
    assert stranded(explore(flight, 2), flight.steps, flight.calm, flight.CHANCE) == []


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param("clear_before_publish", id="the mark is cleared when publishing returns"),
        pytest.param("dirty_in_flight", id="a signal in flight is taken as covered"),
        pytest.param("gone_is_dirty", id="a run or message that vanished counts as done"),
        pytest.param("dropped_is_dirty", id="a dropped message counts as done"),
        pytest.param("match_task_id", id="the end of any run ends the flight"),
        pytest.param("sweep_on_election", id="a new leader does not sweep"),
    ],
)
def test_one_wrong_rule_of_the_flight_loses_a_wakeup(explore: Callable[..., Result[Any]], rule: str) -> None:
    assert explore(flight, 2, **{rule: False}).why == "wake-up lost"


def test_a_dropped_message_is_covered_by_the_waiting_worker_if_no_worker_dies(
    explore: Callable[..., Result[Any]],
) -> None:
    assert explore(flight, 2, dropped_is_dirty=False, workers_die=False).why is None


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param("try_next", id="a message is dropped because RUN is taken"),
        pytest.param("begin_after_release", id="the task begins before NEXT is free"),
    ],
)
def test_a_dropped_message_is_covered_only_by_a_run_still_to_begin(
    explore: Callable[..., Result[Any]], rule: str
) -> None:
    result = explore(flight, 2, dropped_is_dirty=False, workers_die=False, **{rule: False})
    assert result.why == "wake-up lost"


def test_releasing_next_before_run_is_held_lets_two_wait(explore: Callable[..., Result[Any]]) -> None:
    assert explore(flight, 3, next_until_run=False).why == "two wait"


def test_a_worker_that_outlives_its_session_lets_two_run(explore: Callable[..., Result[Any]]) -> None:
    """The known limit of locks: they follow the session, not the process."""
    assert explore(flight, 2, sessions_break=True).why == "two run"


# Bundles


def test_no_job_of_a_bundle_starts_twice_or_is_stranded_whichever_process_dies(
    explore: Callable[..., Result[Any]],
) -> None:
    result = explore(bundle, 1)
    assert result.why is None
    assert stranded(result, bundle.steps, bundle.calm, bundle.CHANCE) == []


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        pytest.param(
            "take_away", "body begins of an attempt that has ended", id="the loop keeps what is handed back"
        ),
        pytest.param("start_before_body", "attempt starts twice", id="a body begins before its start"),
        pytest.param(
            "doubt_is_not_started",
            "body begins of an attempt that has ended",
            id="a lost answer counts as a start",
        ),
        pytest.param(
            "unbegun_by_nobody", "body begins of an attempt that has ended", id="a started job goes back"
        ),
        pytest.param("by_claim", "another attempt settled", id="a settlement names only the job"),
        pytest.param(
            "abandon_dead_only", "body begins of an attempt that has ended", id="the child still runs"
        ),
        pytest.param(
            "abandon_unbegun", "attempt spent that did not run", id="unbegun jobs are lost with the child"
        ),
        pytest.param("renew_slow", "two bodies of a job", id="nobody renews a slow job"),
        pytest.param("hand_back", "attempt spent that did not run", id="nothing is handed back"),
        pytest.param("return_shared", "two bodies in one place", id="a job of a bundle is published again"),
        pytest.param("stop_if_held", "two bodies in one place", id="a second run of the message goes on"),
    ],
)
def test_one_wrong_rule_of_bundles_is_found(explore: Callable[..., Result[Any]], rule: str, why: str) -> None:
    assert explore(bundle, 1, **{rule: False}).why == why


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        pytest.param(
            "not_late",
            "body begins of an attempt that has ended",
            id="a body begins when its lease has ended",
        ),
        pytest.param("abandon_unbegun", "job dead that no process began", id="unbegun jobs are lost twice"),
    ],
)
def test_a_wrong_rule_of_bundles_is_found_with_a_second_accident(
    explore: Callable[..., Result[Any]], rule: str, why: str
) -> None:
    assert explore(bundle, 2, spent=False, **{rule: False}).why == why


def test_without_the_end_of_leases_the_death_of_a_worker_strands_its_jobs(
    explore: Callable[..., Result[Any]],
) -> None:
    rules = replace(bundle.RIGHT, leases_end=False)
    result = explore(bundle, 1, leases_end=False)
    assert stranded(result, partial(bundle.steps, rules=rules), bundle.calm, bundle.CHANCE) != []
