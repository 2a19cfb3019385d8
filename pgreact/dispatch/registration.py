"""Whether workers know the tasks of routes: a decision about what they answered, without I/O and clock.

A route's task is in one of three states: known (in neither set), doubted (workers answered, and none knew
it), or unanswered (that was so twice in a row, and is told). No answer at all proves nothing: workers may be
busy, their remote control may be off, or the broker may have none.
"""

import dataclasses
from collections.abc import Mapping

CONFIRM = 30.0  # seconds until a doubt is confirmed: workers that start at the same time need not be up yet
AGAIN = 60.0  # while a route is unanswered
SELDOM = 900.0  # otherwise

Task = tuple[int, str]  # a route's id and the name of its task


@dataclasses.dataclass(frozen=True)
class Answer:
    """What workers said of the tasks that they know."""

    workers: int
    tasks: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known of the routes' tasks so far."""

    doubted: frozenset[Task] = frozenset()
    unanswered: frozenset[Task] = frozenset()


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What an answer changes."""

    known: Known
    unanswered: list[int]  # routes of which it is to be told
    answered: list[int]  # routes of which that is over
    ask_in: float  # seconds


def judge(known: Known, routes: Mapping[int, str], answer: Answer | None) -> Verdict:
    """Take an answer into account.

    Args:
        known: So far.
        routes: The name of each route's task, by the route's id. What is no longer there is forgotten.
        answer: ``None``: nobody answered.
    """
    tasks = frozenset(routes.items())
    doubted, before = known.doubted & tasks, known.unanswered & tasks
    missing = before | doubted
    unanswered = before
    if answer is not None:
        missing = frozenset(task for task in tasks if task[1] not in answer.tasks)
        unanswered = missing & (before | doubted)
    after = Known(missing - unanswered, unanswered)
    return Verdict(
        after,
        sorted(route for route, _ in unanswered - before),
        sorted(route for route, _ in before - unanswered),
        CONFIRM if after.doubted else AGAIN if unanswered else SELDOM,
    )
