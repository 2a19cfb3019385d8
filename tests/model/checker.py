"""A small explicit-state model checker: explores every order of steps, breadth first.

A model is two functions over hashable states: `steps` returns every (label, next state), `wrong` the error
of a state, or None. `check` visits each reachable state once, so the trace that it returns for a wrong state
is a shortest one. Models keep interchangeable actors sorted inside their states: each set of mirror images is
then visited once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

S = TypeVar("S", bound=NamedTuple)


@dataclass(frozen=True)
class Result(Generic[S]):
    """The result of an exploration. `parents` maps each visited state to the one before it."""

    parents: dict[S, S | None]
    steps: int
    seconds: float
    why: str | None  # the error of the trace's last state; None: no state has one
    trace: list[tuple[str, S]]

    @property
    def states(self) -> int:
        return len(self.parents)

    def __str__(self) -> str:
        counts = f"{self.states:,} states, {self.steps:,} steps, {self.seconds:.1f} s"
        if self.why is None:
            return counts
        return "\n".join([f"{self.why}, in {len(self.trace) - 1} steps ({counts})", *story(self.trace)])


def check(
    initial: S,
    steps: Callable[[S], Iterable[tuple[str, S]]],
    wrong: Callable[[S], str | None],
) -> Result[S]:
    """Visit every state reachable from `initial`; stop at the first wrong one."""
    began = time.perf_counter()
    parents: dict[S, S | None] = {initial: None}
    frontier = [initial]
    taken = 0
    while frontier:
        reached: list[S] = []
        for state in frontier:
            for _, successor in steps(state):
                taken += 1
                if successor in parents:
                    continue
                parents[successor] = state
                reached.append(successor)
                why = wrong(successor)
                if why is not None:
                    seconds = time.perf_counter() - began
                    return Result(parents, taken, seconds, why, _trace(parents, successor, steps))
        frontier = reached
    return Result(parents, taken, time.perf_counter() - began, None, [])


def stranded(
    result: Result[S],
    steps: Callable[[S], Iterable[tuple[str, S]]],
    calm: Callable[[S], bool],
    chance: frozenset[str],
) -> list[tuple[str, S]]:
    """Return the trace to a state that cannot come to rest; empty without one.

    Every visited state must be able to reach a calm one by the actors' own steps: without the steps named in
    `chance`, on which no actor may depend (a crash, a new commit). This finds actors that are stuck.
    """
    comes_from: dict[S, list[S]] = {state: [] for state in result.parents}
    for state in result.parents:
        for label, successor in steps(state):
            if label not in chance:
                comes_from[successor].append(state)
    rested = {state for state in comes_from if calm(state)}
    border = list(rested)
    while border:
        for state in comes_from[border.pop()]:
            if state not in rested:
                rested.add(state)
                border.append(state)
    return next((_trace(result.parents, s, steps) for s in result.parents if s not in rested), [])


def _trace(
    parents: dict[S, S | None],
    last: S,
    steps: Callable[[S], Iterable[tuple[str, S]]],
) -> list[tuple[str, S]]:
    path = [last]
    while (parent := parents[path[-1]]) is not None:
        path.append(parent)
    path.reverse()
    trace = [("", path[0])]
    for before, after in pairwise(path):
        trace.append((next(label for label, successor in steps(before) if successor == after), after))
    return trace


def story(trace: list[tuple[str, S]]) -> list[str]:
    """Return a line for each step: its label, and the parts of the state that it changed."""
    lines: list[str] = []
    width = max((len(label) for label, _ in trace), default=0)
    for (_, before), (label, after) in pairwise(trace):
        changed = [
            f"{name} {_say(new)}"
            for name, old, new in zip(after._fields, before, after, strict=True)
            if old != new
        ]
        lines.append(f"  {len(lines) + 1:2d}. {label:{width}}  {', '.join(changed)}")
    return lines


def _say(value: object) -> str:
    return " + ".join(map(str, value)) if isinstance(value, tuple) else str(value)
