"""A model of the gate (docs/protocols.md): no interleaving of writers, polls and crashes loses a wake-up.

The abstraction, and why it is fair:

- A **writer** runs any number of transactions. It is a string: its phase, and `seen` when the leader's last
  list of the holders of S's lock has it. A new transaction is a new holder (`virtualtransaction`), so `seen`
  ends with the transaction. PREPARE keeps the holder: to the gate it is only a long transaction. Its phase
  tells what it has done: `locks` nothing yet, or nothing that a savepoint has not undone; `skips`,
  `notifies`, or both. `nextval` is two steps, the lock and then the number; the number is one step: it
  increments S and returns the value to the writer. The order at commit is PostgreSQL's: visible, then locks
  released; the notification may reach the leader at any moment after visibility.
- **S** is two bits: whether its value is *shut*, which outlives every session; and whether it has moved since
  its last reading, or since `setval` set it to a known value. `setval` makes earlier moves unknown.
- **Opening** compares two snapshots, A and B. They differ if a transaction with an id ended between them:
  `ended`.
- **dispatch** covers every commit visible at that moment. `uncovered` is a ghost variable: some transaction
  committed and released its locks, and no dispatch has followed. A leader at rest must then have a reason to
  act: a dirty mark, a notification on its way, or something that its very next poll will find.

Nothing is counted, so the state space is finite with unlimited transactions, cycles and crashes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple


class State(NamedTuple):
    writers: tuple[str, ...]
    leader: str
    shut: bool
    moved: bool  # S, since the leader read or set it
    ended: bool  # a transaction, since the leader took snapshot A
    gone: bool  # a holder that the leader had listed
    dirty: bool
    pending: bool  # a notification is on its way
    uncovered: bool
    disconnected: bool  # the leader's listening connection is lost


@dataclass(frozen=True)
class Rules:
    """The protocol, and the ways to get it wrong."""

    lock_before_number: bool = True
    s_before_holders: bool = True
    signal_after_both_reads: bool = True
    drain_on_opening: bool = True
    drain_on_election: bool = True
    open_before_list: bool = True
    compare_snapshots: bool = True
    snapshot_before_s: bool = True
    snapshot_after_list: bool = True
    xids: bool = True  # a writer that skips has a transaction id
    set_value_is_baseline: bool = True  # False: the first reading after setval is
    open_on_election: bool = True
    open_before_list_on_election: bool = True
    list_before_sweep: bool = True
    fenced: bool = True  # only the session that leads sets S
    sweep_on_reconnect: bool = True
    listen_before_sweep: bool = True
    commits: bool = True  # False: every transaction rolls back
    closed: bool = False  # gate = "closed": writers never notify, whatever S is
    disconnects: bool = True  # the listener may lose its connection


RIGHT = Rules()
CHANCE = frozenset(
    {
        "writer takes the lock",
        "writer moves S, skips",
        "writer moves S, notifies",
        "writer rolls back to a savepoint",
        "leader dies",
        "server crashes",
        "listener loses its connection",
    }
)
# what the leader does between A and B; + if S had moved or a holder was gone
OPENING = ("A", "read", "set", "compared", "listed")


def initial(writers: int, rules: Rules = RIGHT) -> State:
    leader = "polling" if rules.closed else "open"
    return State(("idle",) * writers, leader, *(False,) * 8)


class Move(NamedTuple):
    """One writer's step, and its effects."""

    label: str
    writers: tuple[str, ...]
    moved: bool = False
    ended: bool = False
    gone: bool = False
    pending: bool = False
    uncovered: bool = False


@cache
def moves(writers: tuple[str, ...], shut: bool, rules: Rules) -> tuple[Move, ...]:
    """Return every step that a writer can take. Writers are interchangeable: equal ones move as one."""
    found = []
    for index, writer in enumerate(writers):
        if writer in writers[:index]:
            continue
        others = writers[:index] + writers[index + 1 :]
        phase, _, seen = writer.partition(" ")
        for label, after, *effects in _writer(phase, shut or rules.closed, rules):
            now = f"{after} {seen}" if seen and after != "idle" else after
            gone = bool(seen) and after == "idle"
            does = dict.fromkeys(effects, True)
            found.append(Move(f"writer {label}", tuple(sorted((*others, now))), gone=gone, **does))
    return tuple(found)


def _writer(phase: str, shut: bool, rules: Rules) -> list[tuple[str, ...]]:
    """Return (label, next phase, effects ...) of each step of a writer in this phase."""
    act = "skips" if shut else "notifies"
    match phase:
        case "idle" if rules.lock_before_number:
            return [("takes the lock", "locks")]
        case "idle":
            return [(f"moves S, {act}", f"unlocked-{act}", "moved")]
        case "unlocked-skips" | "unlocked-notifies":
            return [("takes the lock", phase.removeprefix("unlocked-"))]
        case "visible":
            return [("releases its locks", "idle", "uncovered")]
        case "covered":  # a dispatch came between visibility and the end of its locks
            return [("releases its locks", "idle")]
    ends = ["ended"] if rules.xids else []
    done = set() if phase == "locks" else set(phase.split("+"))
    found = [
        (f"moves S, {act}", "+".join(sorted(done | {act})), "moved"),
        ("rolls back", "idle", *ends),
        *(("rolls back to a savepoint", "+".join(sorted(done - {act})) or "locks") for act in done),
    ]
    if done and rules.commits:
        found.append(("commits", "visible", *ends, *(["pending"] if "notifies" in done else [])))
    return found


@cache
def listed(writers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the writers after a list of the lock's holders: exactly the holders are seen."""
    return tuple(sorted(_bare(w) if _holds_nothing(w) else f"{_bare(w)} seen" for w in writers))


@cache
def unlisted(writers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(map(_bare, writers)))


@cache
def covered(writers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(w.replace("visible", "covered") for w in writers))


def _bare(writer: str) -> str:
    return writer.partition(" ")[0]


def _holds_nothing(writer: str) -> bool:
    return writer == "idle" or writer.startswith("unlocked")


def steps(s: State, rules: Rules = RIGHT) -> list[tuple[str, State]]:
    """Return everything that can happen next."""
    writers, leader, shut, moved, ended, gone, dirty, pending, uncovered, disconnected = s
    # S is not read while the gate is open, and the snapshots matter only between the two
    watched, compared = leader not in {"none", "elected", "open", "draining"}, leader[:-1] in OPENING
    found = [
        (m.label, State(m.writers, leader, shut, moved or (watched and m.moved),
                        ended or (compared and m.ended), gone or m.gone, dirty, pending or m.pending,
                        uncovered or m.uncovered, disconnected))
        for m in moves(writers, shut, rules)
    ]  # fmt: skip
    if pending:
        heard = leader != "none" and not disconnected
        label = "notification arrives" if heard else "notification is lost"
        found.append((label, s._replace(pending=False, dirty=dirty or heard)))
    # sessions end, and with them every transaction that was not prepared; S may fall back to what it was
    # before its last setval, which is not flushed
    lost = uncovered or any(_bare(w) == "visible" for w in writers)
    crashed = State(("idle",) * len(writers), "none", False, *(False,) * 5, lost, False)
    found += [("server crashes", crashed._replace(shut=after)) for after in {shut, False}]
    if leader == "none":
        elected = s._replace(leader="elected", disconnected=not rules.listen_before_sweep)
        found.append(("leader elected", elected))
        return found
    if not rules.fenced:
        found.append(("deposed leader closes the gate", s._replace(shut=True, moved=watched)))
    dead = State(unlisted(writers), "none", shut, *(False,) * 4, pending, uncovered, False)
    found.append(("leader dies", dead))
    if dirty:
        found.append(
            ("leader dispatches", s._replace(writers=covered(writers), dirty=False, uncovered=False))
        )
    if disconnected and (rules.listen_before_sweep or leader not in {"elected", "swept", "opened", "listed"}):
        swept = dirty or (rules.sweep_on_reconnect and rules.listen_before_sweep)
        found.append(("listener reconnects", s._replace(disconnected=False, dirty=swept)))
    elif rules.disconnects and not disconnected:
        found.append(("listener loses its connection", s._replace(disconnected=True)))
    found += _leader(s, rules)
    return found


def _leader(  # noqa: PLR0911 - a table
    s: State, rules: Rules
) -> list[tuple[str, State]]:
    """Return the leader's steps of the gate's protocol."""
    writers, leader, _, moved, _, gone, dirty = s[:7]
    match leader:
        case "open" | "draining":
            shut = s._replace(
                leader="polling" if rules.set_value_is_baseline else "shut", shut=True, moved=False
            )
            found = [("leader shuts", shut)]
            if gone:
                found.append(("leader sees a holder gone", s._replace(gone=False, dirty=True)))
            elif leader == "draining" and writers == unlisted(writers):
                found.append(("leader has drained", s._replace(leader="open")))
            return found
        case "shut":  # wrong: who moved S since it was set is part of the first reading
            return [("leader reads S", s._replace(leader="polling", moved=False))]
        case "polling" if rules.s_before_holders:
            early = moved and not rules.signal_after_both_reads
            read = s._replace(leader="S moved" if moved else "S same", moved=False, dirty=dirty or early)
            return [("leader reads S", read), *_begin_opening(s, rules)]
        case "polling":  # wrong: the list comes first
            read = s._replace(leader="S same", writers=listed(writers), gone=False, dirty=dirty or gone)
            return [("leader lists holders", read), *_begin_opening(s, rules)]
        case "S moved" | "S same" if rules.s_before_holders:
            hit = gone or (leader == "S moved" and rules.signal_after_both_reads)
            polled = s._replace(leader="polling", writers=listed(writers), gone=False, dirty=dirty or hit)
            return [("leader lists holders", polled)]
        case "S moved" | "S same":
            return [("leader reads S", s._replace(leader="polling", moved=False, dirty=dirty or moved))]
        case _ if leader[:-1] in OPENING:
            return _opening(s, rules)
        case _:
            return _elected(s, rules)


def _begin_opening(s: State, rules: Rules) -> list[tuple[str, State]]:
    if rules.closed:
        return []
    if rules.snapshot_before_s:
        return [("leader takes snapshot A", s._replace(leader="A-", ended=False))]
    return [("leader reads S", _read(s))]


def _read(s: State) -> State:
    return s._replace(leader="read+" if s.moved else "read-", moved=False)


def _opening(  # noqa: PLR0911 - a table
    s: State, rules: Rules
) -> list[tuple[str, State]]:
    """One function of one session: A, S, setval, list, B. Anything may come between two of them."""
    hit = s.leader.endswith("+")
    match s.leader[:-1]:
        case "A":
            return [("leader reads S", _read(s))]
        case "read":
            if not rules.open_before_list:
                return [("leader lists holders", _list(s, "listed", hit=hit))]
            # wrong if not rules.snapshot_before_s: a writer that ended before A does not count
            fresh = {} if rules.snapshot_before_s else {"ended": False}
            return [
                (
                    "leader sets S",
                    s._replace(leader="set+" if hit else "set-", shut=False, moved=False, **fresh),
                )
            ]
        case "set" if not rules.snapshot_after_list:
            return [
                ("leader takes snapshot B", s._replace(leader="compared+" if hit or s.ended else "compared-"))
            ]
        case "compared":
            return [("leader lists holders", _opened(_list(s, "listed", hit=hit), rules))]
        case "set":
            return [("leader lists holders", _list(s, "listed", hit=hit))]
        case _ if not rules.open_before_list:
            return [("leader sets S, takes snapshot B", _opened(s._replace(shut=False, moved=False), rules))]
        case _:
            return [("leader takes snapshot B", _opened(s, rules))]


def _list(s: State, leader: str, *, hit: bool) -> State:
    hit = hit or s.gone
    return s._replace(leader=leader + ("+" if hit else "-"), writers=listed(s.writers), gone=False)


def _opened(s: State, rules: Rules) -> State:
    hit = s.leader.endswith("+") or (s.ended and rules.compare_snapshots and rules.snapshot_after_list)
    opened = s._replace(leader="draining", moved=False, ended=False, dirty=s.dirty or hit)
    return opened if rules.drain_on_opening else _undrained(opened)


def _undrained(s: State) -> State:
    return s._replace(leader="open", writers=unlisted(s.writers), gone=False)


def _elected(  # noqa: PLR0911 - a table
    s: State, rules: Rules
) -> list[tuple[str, State]]:
    """Open, list, sweep, drain. The dead leader may have left the gate shut."""
    opened = s._replace(shut=s.shut and not rules.open_on_election, moved=False)
    seen = s._replace(writers=listed(s.writers), gone=False)
    drains = s._replace(leader="draining", moved=False)
    if rules.closed:  # what S was before the leader set it is not known: the first poll finds it moved
        drains = s._replace(leader="polling", shut=True, moved=True)
    elif not rules.drain_on_election:
        drains = _undrained(drains)
    match s.leader:
        case "elected" if not rules.list_before_sweep:
            return [("leader sets S, sweeps", opened._replace(leader="swept", dirty=True))]
        case "swept":  # wrong
            return [("leader lists holders", seen._replace(leader="draining"))]
        case "elected" if not rules.open_before_list_on_election:
            return [("leader lists holders", seen._replace(leader="listed"))]
        case "listed" if not rules.open_before_list_on_election:
            return [("leader sets S, sweeps", drains._replace(shut=False, dirty=True))]
        case "elected":
            return [("leader sets S", opened._replace(leader="opened"))]
        case "opened":
            return [("leader lists holders", seen._replace(leader="listed"))]
        case _:
            return [("leader sweeps", drains._replace(dirty=True))]


def wrong(s: State) -> str | None:
    """Return the error of a state: the leader rests, and nothing makes it dispatch an uncovered commit."""
    if not s.uncovered or s.dirty or s.pending or s.gone or s.disconnected:
        return None
    if s.leader in {"open", "draining"} or (s.leader == "polling" and not s.moved):
        return "wake-up lost"
    return None


def calm(s: State) -> bool:
    return s.leader == "open" and not (s.uncovered or s.dirty or s.pending or s.disconnected)
