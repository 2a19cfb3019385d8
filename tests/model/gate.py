"""The gate of DESIGN.md as a model: no interleaving of writers, polls, openings and crashes loses a wake-up.

The abstraction, and why it is fair:

- A **writer** runs any number of transactions. It is a string: where it stands, and `seen` when the leader's
  last list of W's holders has it. A new transaction is a new holder (`virtualtransaction`), so `seen` ends
  with the transaction. PREPARE keeps the holder: to the gate it is only a transaction that takes long.
  Order at commit as in PostgreSQL: visible, then locks released; the notification may reach the leader at
  any moment after visibility.
- **B** is only *shut* or not: to a writer's try, an exclusive waiter and an exclusive holder are the same,
  and nothing the leader does depends on having been granted it. `b_old` is a session that is dying but
  still holds or awaits B: a dead leader's, or a connection we have lost. It vanishes whenever it likes.
- **S** is only compared with its last reading, so it is one bit: moved since.
- **dispatch** covers every commit visible at that moment. `owed` is a ghost: some transaction committed and
  let its locks go, and no dispatch has followed. A leader at rest must then have a reason to act: a dirty
  mark, a notification on its way, or something its very next look will find.

Nothing is counted, so the state space is finite with unlimited transactions, cycles and crashes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple


class State(NamedTuple):
    writers: tuple[str, ...]
    leader: str
    b_ours: bool  # the leader holds or awaits B exclusively
    b_old: bool  # so does a dying session
    moved: bool  # S, since the leader read it
    gone: bool  # a holder of W that the leader had listed
    dirty: bool
    pending: bool  # a notification is on its way
    owed: bool
    deaf: bool  # the leader's listening connection is lost


@dataclass(frozen=True)
class Rules:
    """The protocol, and the ways to get it wrong."""

    w_before_b: bool = True
    s_before_holders: bool = True
    signal_after_both_reads: bool = True
    drain_on_opening: bool = True
    drain_on_election: bool = True
    list_before_sweep: bool = True
    release_before_list: bool = True
    sweep_on_opening: bool = False  # right, too, but a dispatch for nothing
    s_after_list_on_opening: bool = True  # the other way round as in a poll: whoever is listed is drained
    baseline_before_asking: bool = True
    glance_first: bool = False  # right, too: try B before W, and again after it
    wait_for_old_sessions: bool = True
    b_with_leadership: bool = True  # one session holds both: a deposed leader cannot shut the gate
    sweep_on_reconnect: bool = True
    listen_before_sweep: bool = True
    commits: bool = True  # False: every transaction rolls back
    closed: bool = False  # gate = "closed": writers never try B, B is as good as shut for ever
    deafness: bool = True  # the listener may lose its connection


RIGHT = Rules()
CHANCE = frozenset({"writer takes W", "writer writes again", "leader dies", "listener loses its connection"})
WATCHES_S = frozenset(
    {
        "closing",
        "polling",
        "S moved",
        "S same",
        "released",
        "listed",
        "asked",
        "opening open",
        "opening draining",
    }
)


def initial(writers: int, rules: Rules = RIGHT) -> State:
    leader = "polling" if rules.closed else "open"
    return State(("idle",) * writers, leader, False, rules.closed, *(False,) * 6)


class Move(NamedTuple):
    """What one writer's step does to the world."""

    label: str
    writers: tuple[str, ...]
    moved: bool = False
    gone: bool = False
    pending: bool = False
    owed: bool = False


@cache
def moves(writers: tuple[str, ...], shut: bool, rules: Rules) -> tuple[Move, ...]:
    """Every step some writer can take. Writers are interchangeable: equal ones move as one."""
    found = []
    for index, writer in enumerate(writers):
        if writer in writers[:index]:
            continue
        others = writers[:index] + writers[index + 1 :]
        phase, _, seen = writer.partition(" ")
        for label, after, effect in _writer(phase, shut, rules):
            now = f"{after} {seen}" if seen and after != "idle" else after
            gone = bool(seen) and after == "idle"
            effects = {effect: True} if effect else {}
            found.append(Move(f"writer {label}", tuple(sorted((*others, now))), gone=gone, **effects))
    return tuple(found)


def _writer(  # noqa: PLR0911 - a table
    phase: str, shut: bool, rules: Rules
) -> list[tuple[str, str, str]]:
    """(what it does, its next phase, the effect) for a writer in this phase."""
    abort = ("rolls back", "idle", "")
    again = ("writes again", "W", "")  # another statement, or one after ROLLBACK TO SAVEPOINT
    tried = ("finds B shut", "missed", "") if shut else ("gets B and notifies", "notifies", "")
    commit = [("commits", "visible", "")] if rules.commits else []
    match phase:
        case "idle" if rules.glance_first:
            return [("finds B shut", "missed-without-W", "") if shut else tried]
        case "missed-without-W" if rules.glance_first:
            return [("takes W", "W", ""), abort]
        case "idle" if rules.w_before_b:
            return [("takes W", "W", "")]
        case "idle":
            return [("finds B shut", "missed-without-W", "") if shut else tried]
        case "missed-without-W":
            return [("takes W", "missed", ""), abort]
        case "W":
            return [tried, abort]
        case "missed":
            return [("moves S", "skips", "moved"), again, abort]
        case "skips":
            return [abort, again, *commit]
        case "notifies":
            return [abort, again, *(("commits", "visible", "pending") for _ in commit)]
        case "visible":
            return [("lets its locks go", "idle", "owed")]
        case _:  # covered: a dispatch came between visibility and the end of its locks
            return [("lets its locks go", "idle", "")]


@cache
def listed(writers: tuple[str, ...]) -> tuple[str, ...]:
    """The writers after a list of W's holders: exactly those that hold it are seen."""
    return tuple(sorted(_bare(w) if _without_w(w) else f"{_bare(w)} seen" for w in writers))


@cache
def unlisted(writers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(map(_bare, writers)))


@cache
def covered(writers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(w.replace("visible", "covered") for w in writers))


def _bare(writer: str) -> str:
    return writer.partition(" ")[0]


def _without_w(writer: str) -> bool:
    return writer in {"idle", "missed-without-W"}


def steps(s: State, rules: Rules = RIGHT) -> list[tuple[str, State]]:
    """Everything that can happen next."""
    writers, leader, b_ours, b_old, moved, gone, dirty, pending, owed, deaf = s
    watched = leader in WATCHES_S
    found = [
        (m.label, State(m.writers, leader, b_ours, b_old, moved or (watched and m.moved), gone or m.gone,
                        dirty, pending or m.pending, owed or m.owed, deaf))
        for m in moves(writers, b_ours or b_old, rules)
    ]  # fmt: skip
    if pending:
        heard = leader != "none" and not deaf
        label = "leader hears" if heard else "nobody hears"
        found.append((label, s._replace(pending=False, dirty=dirty or heard)))
    if b_old and not rules.closed:
        found.append(("old session ends", s._replace(b_old=False)))
    if leader == "none":
        found.append(("leader elected", s._replace(leader="elected", deaf=not rules.listen_before_sweep)))
        return found
    if not rules.b_with_leadership and not b_old:
        found.append(("deposed leader asks for B", s._replace(b_old=True)))
    dead = State(unlisted(writers), "none", False, b_old, True, False, False, pending, owed, False)
    found += [("leader dies", dead._replace(b_old=lingers)) for lingers in {b_old, b_old or b_ours}]
    if dirty:
        found.append(("leader dispatches", s._replace(writers=covered(writers), dirty=False, owed=False)))
    if deaf and (rules.listen_before_sweep or leader != "elected"):
        swept = dirty or (rules.sweep_on_reconnect and rules.listen_before_sweep)
        found.append(("listener reconnects", s._replace(deaf=False, dirty=swept)))
    elif rules.deafness and not deaf:
        found.append(("listener loses its connection", s._replace(deaf=True)))
    found += _leader(s, rules)
    return found


def _leader(  # noqa: PLR0911 - a table
    s: State, rules: Rules
) -> list[tuple[str, State]]:
    """The steps of a leader about the gate, by where it stands."""
    writers, leader, _, b_old, moved, gone, dirty = s[:7]
    match leader:
        case "elected":
            if not rules.list_before_sweep:
                return [("leader sweeps", s._replace(leader="swept", dirty=True))]
            return [("leader lists W's holders, sweeps", _open(s, rules, drain=rules.drain_on_election))]
        case "swept":
            return [("leader lists W's holders", _open(s, rules, drain=True)._replace(dirty=dirty))]
        case "open" | "draining":
            found = []
            if rules.baseline_before_asking:
                found.append(("leader reads S", s._replace(leader="closing", moved=False)))
            else:
                found.append(("leader asks for B", s._replace(leader="asked", b_ours=True)))
            if gone:
                found.append(("leader sees a holder gone", s._replace(gone=False, dirty=True)))
            elif leader == "draining" and writers == unlisted(writers):
                found.append(("leader has drained", s._replace(leader="open")))
            return found
        case "closing":
            return [("leader asks for B", s._replace(leader="polling", b_ours=True))]
        case "asked":
            return [("leader reads S", s._replace(leader="polling", moved=False))]
        case "polling":
            return _poll_or_open(s, rules)
        case "S moved" | "S same" if rules.s_before_holders:
            hit = gone or (leader == "S moved" and rules.signal_after_both_reads)
            polled = s._replace(leader="polling", writers=listed(writers), gone=False, dirty=dirty or hit)
            return [("leader lists W's holders", polled)]
        case "S moved" | "S same":  # wrong: the list came first
            return [("leader reads S", s._replace(leader="polling", moved=False, dirty=dirty or moved))]
        case "released" if rules.sweep_on_opening:
            return [("leader lists W's holders, sweeps", _open(s, rules, drain=rules.drain_on_opening))]
        case "released" if rules.s_after_list_on_opening:
            seen = _open(s, rules, drain=rules.drain_on_opening)._replace(moved=moved, dirty=dirty or gone)
            if seen.leader == "polling":  # somebody else's B: the next poll has nothing to compare with
                return [("leader lists W's holders", seen._replace(moved=True))]
            return [("leader lists W's holders", seen._replace(leader=f"opening {seen.leader}"))]
        case "opening open" | "opening draining":
            opened = s._replace(leader=leader.removeprefix("opening "), moved=False, dirty=dirty or moved)
            return [("leader reads S", opened)]
        case "released":
            read = s._replace(leader="opening, S moved" if moved else "opening, S same", moved=False)
            return [("leader reads S", read)]
        case "opening, S moved" | "opening, S same":  # wrong: S came first
            found = _open(s, rules, drain=rules.drain_on_opening)
            stirred = dirty or gone or leader == "opening, S moved"
            return [
                ("leader lists W's holders", found._replace(dirty=stirred, moved=found.leader == "polling"))
            ]
        case _:  # listed, and only now releases: wrong
            after = "polling" if b_old else "draining"
            return [("leader releases B, sweeps", s._replace(leader=after, b_ours=False, dirty=True))]


def _poll_or_open(s: State, rules: Rules) -> list[tuple[str, State]]:
    writers, _, b_ours, _, moved, gone, dirty = s[:7]
    found = []
    if rules.s_before_holders:
        early = moved and not rules.signal_after_both_reads
        read = s._replace(leader="S moved" if moved else "S same", moved=False, dirty=dirty or early)
        found.append(("leader reads S", read))
    else:
        read = s._replace(leader="S same", writers=listed(writers), gone=False, dirty=dirty or gone)
        found.append(("leader lists W's holders", read))
    if not b_ours:
        found.append(("leader asks for B", s._replace(b_ours=True)))
    else:  # lock_timeout, or the connection that holds B is lost: polling goes on
        found.append(("leader loses B", s._replace(b_ours=False)))
        found.append(("leader loses sight of B", s._replace(b_ours=False, b_old=True)))
    if rules.release_before_list:
        found.append(("leader releases B", s._replace(leader="released", b_ours=False)))
    else:
        found.append(("leader lists W's holders", s._replace(leader="listed", writers=listed(writers))))
    return found


def _open(s: State, rules: Rules, *, drain: bool) -> State:
    """One look at `pg_locks`: W's holders, and whether anyone still holds or awaits B. Then a sweep."""
    seen = s._replace(writers=listed(s.writers), gone=False, dirty=True)
    if s.b_old and rules.wait_for_old_sessions:
        return seen._replace(leader="polling")
    if drain:
        return seen._replace(leader="draining", moved=False)
    return s._replace(writers=unlisted(s.writers), leader="open", gone=False, dirty=True, moved=False)


def wrong(s: State) -> str | None:
    """A leader at rest owes a dispatch and nothing will ever remind it."""
    if not s.owed or s.dirty or s.pending or s.gone or s.deaf:
        return None
    if s.leader in {"open", "draining"} or (s.leader == "polling" and not s.moved):
        return "wake-up lost"
    return None


def calm(s: State) -> bool:
    return s.leader == "open" and not (s.owed or s.dirty or s.pending or s.deaf)
