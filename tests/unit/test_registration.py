"""Whether workers have registered the tasks of routes, by their replies."""

import pytest

from pgreact.dispatch.registration import AGAIN, CONFIRM, SELDOM, Registered, State, update

ROUTES = {1: "proj.a", 2: "proj.b"}


def answer(*tasks: str) -> Registered:
    return Registered(1, frozenset(tasks))


BOTH, ONE, NEITHER = answer("proj.a", "proj.b"), answer("proj.a"), answer("proj.x")


@pytest.mark.parametrize(
    ("answers", "changes", "ask_in"),
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
def test_a_task_is_unregistered_once_workers_replied_twice_without_it(
    answers: list[Registered | None], changes: list[str], ask_in: float
) -> None:
    state, found = State(), []
    for given in answers:
        change = update(state, ROUTES, given)
        state = change.state
        kinds = [("unregistered", change.unregistered), ("registered", change.registered)]
        found.append(" ".join(f"{kind} {' '.join(map(str, routes))}" for kind, routes in kinds if routes))
    assert found == changes
    assert change.ask_in == ask_in


def test_a_route_with_another_task_starts_anew() -> None:
    state = State(unregistered=frozenset({(2, "proj.b")}))
    change = update(state, {1: "proj.a", 2: "proj.c"}, ONE)
    assert (change.unregistered, change.registered) == ([], [])
    assert change.state == State(suspected=frozenset({(2, "proj.c")}))
    assert update(state, {1: "proj.a"}, ONE).state == State()
