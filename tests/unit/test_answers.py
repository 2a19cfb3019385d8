"""Whether workers know the tasks of routes, by what they answered."""

import pytest

from pgreact.dispatch.registration import AGAIN, CONFIRM, SELDOM, Answer, Known, judge

ROUTES = {1: "proj.a", 2: "proj.b"}


def answer(*tasks: str) -> Answer:
    return Answer(1, frozenset(tasks))


BOTH, ONE, NEITHER = answer("proj.a", "proj.b"), answer("proj.a"), answer("proj.x")


@pytest.mark.parametrize(
    ("answers", "told", "ask_in"),
    [
        ([BOTH], [""], SELDOM),
        ([None, None, None], ["", "", ""], SELDOM),
        ([ONE], [""], CONFIRM),
        ([ONE, ONE], ["", "unanswered 2"], AGAIN),
        ([ONE, ONE, ONE], ["", "unanswered 2", ""], AGAIN),
        ([ONE, BOTH], ["", ""], SELDOM),
        ([ONE, None], ["", ""], CONFIRM),
        ([ONE, None, ONE], ["", "", "unanswered 2"], AGAIN),
        ([ONE, NEITHER], ["", "unanswered 2"], CONFIRM),
        ([NEITHER, NEITHER], ["", "unanswered 1 2"], AGAIN),
        ([ONE, ONE, None], ["", "unanswered 2", ""], AGAIN),
        ([ONE, ONE, BOTH], ["", "unanswered 2", "answered 2"], SELDOM),
    ],
)
def test_a_route_is_unanswered_once_workers_answered_twice_without_knowing_its_task(
    answers: list[Answer | None], told: list[str], ask_in: float
) -> None:
    known, said = Known(), []
    for given in answers:
        verdict = judge(known, ROUTES, given)
        known = verdict.known
        words = [("unanswered", verdict.unanswered), ("answered", verdict.answered)]
        said.append(" ".join(f"{word} {' '.join(map(str, routes))}" for word, routes in words if routes))
    assert said == told
    assert verdict.ask_in == ask_in


def test_a_route_that_calls_another_task_is_judged_anew() -> None:
    known = Known(unanswered=frozenset({(2, "proj.b")}))
    verdict = judge(known, {1: "proj.a", 2: "proj.c"}, ONE)
    assert (verdict.unanswered, verdict.answered) == ([], [])
    assert verdict.known == Known(doubted=frozenset({(2, "proj.c")}))
    assert judge(known, {1: "proj.a"}, ONE).known == Known()
