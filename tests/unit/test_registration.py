"""Whether workers know the tasks of routes, by what they answered."""

import pytest

from pgreact.dispatch.registration import AGAIN, CONFIRM, SELDOM, Registered, State, update

ROUTES = {1: "proj.a", 2: "proj.b"}


def answer(*tasks: str) -> Registered:
    return Registered(1, frozenset(tasks))


BOTH, ONE, NEITHER = answer("proj.a", "proj.b"), answer("proj.a"), answer("proj.x")


@pytest.mark.parametrize(
    ("answers", "told", "ask_in"),
    [
        ([BOTH], [""], SELDOM),
        ([None, None, None], ["", "", ""], SELDOM),
        ([ONE], [""], CONFIRM),
        ([ONE, ONE], ["", "unregistered 2"], AGAIN),
        ([ONE, ONE, ONE], ["", "unregistered 2", ""], AGAIN),
        ([ONE, BOTH], ["", ""], SELDOM),
        ([ONE, None], ["", ""], CONFIRM),
        ([ONE, None, ONE], ["", "", "unregistered 2"], AGAIN),
        ([ONE, NEITHER], ["", "unregistered 2"], CONFIRM),
        ([NEITHER, NEITHER], ["", "unregistered 1 2"], AGAIN),
        ([ONE, ONE, None], ["", "unregistered 2", ""], AGAIN),
        ([ONE, ONE, BOTH], ["", "unregistered 2", "registered 2"], SELDOM),
    ],
)
def test_a_route_is_unregistered_once_workers_answered_twice_without_knowing_its_task(
    answers: list[Registered | None], told: list[str], ask_in: float
) -> None:
    known, said = State(), []
    for given in answers:
        change = update(known, ROUTES, given)
        known = change.state
        words = [("unregistered", change.unregistered), ("registered", change.registered)]
        said.append(" ".join(f"{word} {' '.join(map(str, routes))}" for word, routes in words if routes))
    assert said == told
    assert change.ask_in == ask_in


def test_a_route_that_calls_another_task_is_judged_anew() -> None:
    known = State(unregistered=frozenset({(2, "proj.b")}))
    change = update(known, {1: "proj.a", 2: "proj.c"}, ONE)
    assert (change.unregistered, change.registered) == ([], [])
    assert change.state == State(suspected=frozenset({(2, "proj.c")}))
    assert update(known, {1: "proj.a"}, ONE).state == State()
