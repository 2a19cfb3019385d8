"""Whether workers have registered the tasks of the routes: a pure decision, without I/O and clock.

===============  ======================================================  =============================
a task is        since                                                   which is logged
===============  ======================================================  =============================
registered       a worker has it, or no worker has ever replied
suspected        workers replied, and none has it
unregistered     that was so twice in a row                              ``route.unregistered``
registered       a worker has it again                                   ``route.registered``
===============  ======================================================  =============================

No reply proves nothing: workers may be busy, have no remote control, or use a broker without it.
"""

import dataclasses
from collections.abc import Mapping

CONFIRM = 30.0  # seconds until a suspicion is confirmed: workers that start together need not be up yet
AGAIN = 60.0  # while a task is unregistered
SELDOM = 900.0  # otherwise

Task = tuple[int, str]  # a route's id and the name of its task


@dataclasses.dataclass(frozen=True)
class Registered:
    """The tasks that the workers registered, all together."""

    workers: int  # replied
    tasks: frozenset[str]


@dataclasses.dataclass(frozen=True)
class State:
    """The tasks of routes that are not registered, as far as is known."""

    suspected: frozenset[Task] = frozenset()
    unregistered: frozenset[Task] = frozenset()


@dataclasses.dataclass(frozen=True)
class Update:
    """The change that the workers' replies make."""

    state: State
    unregistered: list[int]  # routes whose task has become unregistered
    registered: list[int]  # routes whose task no longer is
    ask_in: float  # seconds


def update(state: State, routes: Mapping[int, str], registered: Registered | None) -> Update:
    """Take the workers' replies into account.

    Args:
        state: The state so far; a route that is gone or has another task is forgotten.
        routes: The name of each route's task, by the route's id.
        registered: ``None``: no worker replied.
    """
    tasks = frozenset(routes.items())
    suspected, before = state.suspected & tasks, state.unregistered & tasks
    missing = before | suspected
    unregistered = before
    if registered is not None:
        missing = frozenset(task for task in tasks if task[1] not in registered.tasks)
        unregistered = missing & (before | suspected)
    after = State(missing - unregistered, unregistered)
    return Update(
        after,
        sorted(route for route, _ in unregistered - before),
        sorted(route for route, _ in before - unregistered),
        CONFIRM if after.suspected else AGAIN if unregistered else SELDOM,
    )
