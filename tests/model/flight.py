"""A model of flights (docs/protocols.md): one run, one waiter, and no lost wake-up, whichever process dies.

The abstraction, and why it is fair:

- A **commit** is one step; the gate's model proves that a living leader learns of it and a new one sweeps.
- **Messages** are `mine`, which the leader follows, or `other`: a dead leader's, a given-up one, a call by
  hand. The broker may lose any of them (or drop it unstarted once expired), and deliver any of them twice.
- A **worker** is a string: its phase and whose message it has. Its locks follow from that. NEXT and RUN
  belong to two transactions, since a transaction lock cannot be released alone. A dead worker's locks vanish
  one by one, when the server notices; until then `dead` holds NEXT (N), RUN (R) or asks for it (q).
- A **run** covers every commit before it *begins*, if it ends; one that dies covers nothing. `uncovered` is a
  ghost variable: some commit is not covered by a run that ended or still runs. A run that `covers` is one
  that such a commit depends on.
- The **reports** of workers (ended, dropped) may be lost on the way. The model has no clock: the leader may
  assume at any time that its message has expired, rightly or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

HOLD_RUN = frozenset({"both", "armed", "runs", "covers", "runs+N", "covers+N"})
HOLD_NEXT = frozenset({"waits", "both", "runs+N", "covers+N"})
RUNNING = frozenset({"runs", "covers", "runs+N", "covers+N", "orphan"})
WAITING = frozenset({"waits", "both", "asks"})
WILL_BEGIN = frozenset({"waits", "both", "armed", "asks"})
MESSAGES = 2  # of others, at most, in the broker at once
CHANCE = frozenset({
    "a transaction commits", "another client calls the task", "broker loses a message",
    "broker delivers twice", "leader dies", "publishing fails", "publishing times out",
    "report is lost", "worker dies", "worker loses its session",
})  # fmt: skip


class State(NamedTuple):
    workers: tuple[str, ...]
    leader: str
    dirty: bool
    mine: int  # copies in the broker
    other: int
    reports: tuple[str, ...]  # on their way to the leader
    uncovered: bool


@dataclass(frozen=True)
class Rules:
    """The protocol, and the ways to get it wrong."""

    try_next: bool = True  # a message that finds RUN taken tries NEXT; else it is dropped at once
    next_until_run: bool = True  # NEXT is held until RUN is
    begin_after_release: bool = True  # the task's body begins only when NEXT is free again
    dropped_is_dirty: bool = True
    gone_is_dirty: bool = True  # neither RUN nor NEXT is held, without a report: expired, lost or killed
    clear_before_publish: bool = True
    dirty_in_flight: bool = True  # a signal during the flight marks the route
    sweep_on_election: bool = True
    match_task_id: bool = True
    workers_die: bool = True
    sessions_break: bool = False  # a living worker loses its sessions and runs on


RIGHT = Rules()


def initial(workers: int, rules: Rules = RIGHT) -> State:
    return State(("idle",) * workers, "idle", False, 0, 0, (), False)


class Step(NamedTuple):
    """What one worker can do next, and its effects."""

    label: str
    after: str
    mine: int = 0
    other: int = 0
    reports: str = ""
    uncovers: bool | None = None


@cache
def moves(
    workers: tuple[str, ...], uncovered: bool, rules: Rules
) -> tuple[tuple[tuple[str, ...], Step], ...]:
    """Return every step that a worker can take. Workers are interchangeable: equal ones move as one."""
    run_free = not any(phase in HOLD_RUN or "R" in whose for phase, whose in map(_split, workers))
    next_free = not any(phase in HOLD_NEXT or "N" in whose for phase, whose in map(_split, workers))
    found = []
    for index, worker in enumerate(workers):
        if worker in workers[:index]:
            continue
        others = workers[:index] + workers[index + 1 :]
        phase, whose = _split(worker)
        if phase == "idle":
            options = [Step("takes the leader's message", "got mine", mine=-1),
                       Step("takes another message", "got other", other=-1)]  # fmt: skip
        elif phase == "dead":
            options = _dead(whose, run_free)
        else:
            options = [
                *_works(phase, whose, run_free, next_free, uncovered, rules),
                *(_dies(phase, whose) if rules.workers_die else []),
            ]
        found += [(tuple(sorted((*others, step.after))), step) for step in options]
    return tuple(found)


def _split(worker: str) -> tuple[str, str]:
    phase, _, whose = worker.partition(" ")
    return phase, whose


def _works(  # noqa: PLR0911 - a table
    phase: str, whose: str, run_free: bool, next_free: bool, uncovered: bool, rules: Rules
) -> list[Step]:
    """Return the steps of the wrapper around the task."""
    drops = Step("drops its message", "idle", reports=f"dropped {whose}")
    begins = Step("begins", f"{'covers' if uncovered else 'runs'} {whose}", uncovers=False)
    match phase:
        case "got" if run_free:
            return [Step("takes RUN", f"armed {whose}")]
        case "got":
            return [Step("finds RUN taken", f"missed {whose}") if rules.try_next else drops]
        case "missed" if next_free:
            return [Step("takes NEXT", f"waits {whose}")]
        case "missed":
            return [drops]
        case "waits" if not rules.next_until_run:
            return [Step("releases NEXT", f"asks {whose}")]
        case "waits":
            return [Step("is granted RUN", f"both {whose}")] if run_free else []
        case "asks":
            return [Step("is granted RUN", f"armed {whose}")] if run_free else []
        case "both" if not rules.begin_after_release:
            return [begins._replace(after=begins.after.replace(" ", "+N "))]
        case "both":
            return [Step("releases NEXT", f"armed {whose}")]
        case "runs+N" | "covers+N":
            return [Step("releases NEXT", f"{phase.removesuffix('+N')} {whose}")]
        case "armed":
            return [begins]
        case "orphan":
            return [Step("ends", "idle")]
        case _:
            lost = Step("loses its session", f"orphan {whose}")
            return [Step("ends", "idle", reports=f"ended {whose}"), *([lost] if rules.sessions_break else [])]


def _dies(phase: str, whose: str) -> list[Step]:
    """A worker dies: its message is lost, or the broker has kept it and delivers it again."""
    locks = ("N" if phase in HOLD_NEXT else "") + ("R" if phase in HOLD_RUN else "")
    locks += "q" if phase in {"waits", "asks"} else ""
    after = f"dead {locks}" if locks else "idle"
    uncovers = True if phase.startswith("covers") else None
    again = Step("dies", after, mine=int(whose == "mine"), other=int(whose == "other"), uncovers=uncovers)
    return [Step("dies", after, uncovers=uncovers), again]


def _dead(locks: str, run_free: bool) -> list[Step]:
    granted = [Step("that died is granted RUN", f"dead {locks.replace('q', 'R')}")] if run_free else []
    rest = [locks.replace(lock, "") for lock in locks]
    vanished = [Step("that died loses a lock", f"dead {left}" if left else "idle") for left in rest]
    return [*vanished, *(granted if "q" in locks else [])]


@cache
def disowned(workers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(w.replace("mine", "other") for w in workers))


@cache
def locks_free(workers: tuple[str, ...]) -> bool:
    """Return whether `pg_locks` shows no holder of RUN or NEXT."""
    held = HOLD_RUN | HOLD_NEXT
    return not any(phase in held or "R" in whose or "N" in whose for phase, whose in map(_split, workers))


def steps(s: State, rules: Rules = RIGHT) -> list[tuple[str, State]]:
    """Return everything that can happen next."""
    workers, leader, dirty, mine, other, reports, uncovered = s
    found = []
    for after, step in moves(workers, uncovered, rules):
        own, others = mine + step.mine, other + step.other
        if not (0 <= own <= 1 and 0 <= others <= MESSAGES):
            continue
        sent = reports
        if step.reports and leader != "none" and step.reports not in reports:
            sent = tuple(sorted((*reports, step.reports)))
        uncovers = uncovered if step.uncovers is None else step.uncovers
        found.append((f"worker {step.label}", State(after, leader, dirty, own, others, sent, uncovers)))
        if own < mine or others < other:  # taken, and the broker will deliver it once more
            found.append(("broker delivers twice", State(after, leader, dirty, mine, other, sent, uncovers)))
    marked = leader == "idle" or (leader != "none" and rules.dirty_in_flight)
    found.append(("a transaction commits", s._replace(uncovered=True, dirty=dirty or marked)))
    if other < MESSAGES:
        found.append(("another client calls the task", s._replace(other=other + 1)))
    if mine:
        found.append(("broker loses a message", s._replace(mine=0)))
    if other:
        found.append(("broker loses a message", s._replace(other=other - 1)))
    if leader == "none":
        return [*found, ("leader elected", s._replace(leader="idle", dirty=rules.sweep_on_election))]
    found.append(("leader dies", _ended(s)._replace(leader="none", dirty=False)))
    found += [
        ("report is lost", s._replace(reports=tuple(r for r in reports if r != report))) for report in reports
    ]
    return found + _leader(s, rules)


def _ended(s: State, *, dirty: bool = False) -> State:
    """The flight is over for the leader: what is left of its message becomes another's."""
    return s._replace(
        workers=disowned(s.workers),
        leader="idle",
        dirty=s.dirty or dirty,
        mine=0,
        other=min(s.other + s.mine, MESSAGES),
        reports=(),
    )


def _leader(s: State, rules: Rules) -> list[tuple[str, State]]:
    """Return the leader's steps: its flight's state machine."""
    found = []
    match s.leader:
        case "idle" if s.dirty:
            kept = not rules.clear_before_publish
            found.append(("leader begins to publish", s._replace(leader="sending", dirty=kept)))
        case "sending":
            found.append(("leader's message reaches the broker", s._replace(leader="sent", mine=1)))
            found.append(("publishing fails", _ended(s, dirty=True)))
        case "sent":
            found.append(("publishing times out", _ended(s, dirty=True)))
            cleared = s.dirty and rules.clear_before_publish
            found.append(("publishing returns", s._replace(leader="out", dirty=cleared)))
        case "out" if locks_free(s.workers):
            found.append(("leader finds no lock held", _ended(s, dirty=rules.gone_is_dirty)))
    if s.leader in {"sent", "out"}:
        if "dropped mine" in s.reports:
            found.append(("leader gets the report: dropped", _ended(s, dirty=rules.dropped_is_dirty)))
        if "ended mine" in s.reports or ("ended other" in s.reports and not rules.match_task_id):
            found.append(("leader gets the report: ended", _ended(s)))
    return found


def wrong(s: State) -> str | None:
    phases = [worker.partition(" ")[0] for worker in s.workers]
    if sum(phase in RUNNING for phase in phases) > 1:
        return "two run"
    if sum(phase in WAITING for phase in phases) > 1:
        return "two wait"
    if s.uncovered and s.leader == "idle" and not s.dirty and WILL_BEGIN.isdisjoint(phases):
        return "wake-up lost"
    return None


def calm(s: State) -> bool:
    return s.leader == "idle" and not (s.dirty or s.uncovered or s.other) and set(s.workers) == {"idle"}
