"""A model of bundles (docs/protocols.md): two jobs of one message, two processes, every crash between steps.

The abstraction, and why it is fair:

- A **job** is its row: `queue`, `claimed` (in progress, to be published again), `sent` (marked as published),
  `started` by a process, or at its end: `done`, `dead`, `cancelled`. `lost` has reached `max_lost`, which
  is 1. `ran` is a ghost variable: the body of this attempt has begun. `shared`: the row is of the bundle,
  whose jobs take one place of their lane.
- A **claim_id** is compared with the row's, and never comes back. So a process or message that knows it
  needs one bit, fresh or not; and what knows only a stale one, and can no longer do anything, is forgotten.
  That leaves the number of attempts unbounded, and the state space finite.
- A **process** has each job in one place of its loop (`rest`, `begun`, `late`, `runs`, `slow`, `ended`) and
  in one of its background thread: to be handed back, as `unbegun` or with the word that the body has not
  run (`vouched`), or to be settled `later`. `!` marks a stale claim. The background thread may send each at
  any time, and so after any number of failures.
- A **statement** is one step. Its answer may be lost, or another transaction may hold a row.
- **Leases** have no clock. One may end when nobody renews it, and when the database is away for too long. A
  body that is not `slow` ends before its lease does. A job that is `late` may lose its lease before its
  body begins.
- **Messages** are a set. The broker may lose one, and deliver one twice. An unstarted job is published
  again, alone, at any time: its lease may be short.

- **Accidents** (a death, a lost answer or message, a locked row, a cancel) are bounded; the tests allow one
  or two, in any order with everything else, and one message that is delivered twice.

A body always ends well: a failure is settled by a statement of its own, as without bundles.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

JOBS = (0, 1)
UNSTARTED = frozenset({"claimed", "sent"})
FINAL = frozenset({"done", "dead", "cancelled"})
RUNNING = frozenset({"runs", "slow", "runs!", "slow!"})
BEGUN = frozenset({"begun", "late", "begun!", "late!"})
CHANCE = frozenset({
    "job is cancelled", "broker loses a message", "broker delivers twice", "leader dies", "publish fails",
    "child dies", "worker dies", "answer is lost", "begun jobs are late", "process stops early",
    "row of an ended job is locked", "lease ends during an outage",
})  # fmt: skip

ACCIDENTS = CHANCE - {"broker delivers twice"}


class Job(NamedTuple):
    row: str
    lost: bool = False
    ran: bool = False
    shared: bool = False

    def __str__(self) -> str:
        return f"{self.row}{' ran' * self.ran}{' lost' * self.lost}{' shared' * self.shared}"


class Process(NamedTuple):
    loop: tuple[str, str] = ("", "")
    later: tuple[str, str] = ("", "")
    message: tuple[bool, bool] = (False, False)  # the fresh jobs of the message in hand
    dead: bool = False  # and its main process has not abandoned the message

    def __str__(self) -> str:
        places = "/".join(self.loop) + "".join(
            f" {job}:{what}" for job, what in enumerate(self.later) if what
        )
        return f"[{'dead' if self.dead else places}]"


class State(NamedTuple):
    jobs: tuple[Job, ...]
    processes: tuple[Process, ...]
    messages: frozenset[frozenset[int]]
    sending: frozenset[int]  # a bundle that the claim has marked as published, and the leader is to send
    crashes: int  # and other accidents, still to come
    copies: int  # likewise: messages that are delivered twice
    fault: str | None = None


@dataclass(frozen=True)
class Rules:
    """The protocol, and the ways to get it wrong."""

    start_before_body: bool = True
    one_transaction: bool = True  # False: the next jobs begin in a transaction after the settlement
    settle_first: bool = True  # False, in two transactions: they begin in one before it
    doubt_is_not_started: bool = True  # a statement without an answer has begun nothing
    take_away: bool = True  # what is handed back is taken from the loop, under the mutex
    hand_back: bool = True
    unbegun_by_nobody: bool = True  # what has not begun is not handed back in the name of the process
    not_late: bool = True  # no body begins after a third of the lease
    renew_slow: bool = True
    renew_unsettled: bool = True
    leases_end: bool = True
    by_claim: bool = True  # a settlement, and a hand back, name the attempt
    abandon_unbegun: bool = True  # jobs that the dead child has not begun go back
    abandon_dead_only: bool = True  # the main process waits until the child has ended
    revert_unsent: bool = True  # the leader reverts the marks of messages that the broker has not taken
    return_shared: bool = (
        True  # a job of a bundle goes back to the queue; False: it is published under the same claim_id
    )
    stop_if_held: bool = True  # a run that finds a job started elsewhere begins none of the others
    spent: bool = True  # whether `wrong` includes attempts that are spent for nothing


RIGHT = Rules()


def initial(crashes: int, rules: Rules = RIGHT) -> State:
    return State((Job("queue"),) * 2, (Process(),) * 2, frozenset(), frozenset(), crashes, 1)


def _put(values: tuple, at: int, value: object) -> tuple:  # type: ignore[type-arg]
    return (*values[:at], value, *values[at + 1 :])


def _job(s: State, job: int, **changes: object) -> State:
    return s._replace(jobs=_put(s.jobs, job, s.jobs[job]._replace(**changes)))


def _at(s: State, number: int, job: int, **places: str) -> State:
    """Put a job into a place of a process's loop, or of its background thread."""
    process = s.processes[number]
    changed = {name: _put(getattr(process, name), job, place) for name, place in places.items()}
    return s._replace(processes=_put(s.processes, number, process._replace(**changed)))


def _stale(place: str) -> str:
    if place in {"rest", "ended", "unbegun", ""}:
        return ""  # a start or a settlement with it changes nothing
    return place if place.endswith("!") else f"{place}!"


def _end(s: State, job: int, row: str, **changes: object) -> State:
    """End the attempt of a job: its claim_id is stale from now on."""
    processes = tuple(
        p._replace(
            loop=_put(p.loop, job, _stale(p.loop[job])),
            later=_put(p.later, job, _stale(p.later[job])),
            message=_put(p.message, job, False),
        )
        for p in s.processes
    )
    messages = frozenset(filter(None, (message - {job} for message in s.messages)))
    s = s._replace(processes=processes, messages=messages, sending=s.sending - {job})
    return _job(s, job, row=row, ran=False, shared=False, **changes)


def _lose(s: State, job: int) -> State:
    """Settle an attempt as lost."""
    return _end(s, job, "dead") if s.jobs[job].lost else _end(s, job, "queue", lost=True)


def _fault(s: State, why: str) -> State:
    return s._replace(fault=s.fault or why)


def _mirrored(s: State) -> State:
    """Return the smaller of a state and its mirror image: the processes are interchangeable."""
    swap = {"started 0": "started 1", "started 1": "started 0"}
    first, second = s.processes
    if first < second:
        return s
    jobs = tuple(j._replace(row=swap.get(j.row, j.row)) for j in s.jobs)
    if first > second or jobs < s.jobs:
        return s._replace(jobs=jobs, processes=(second, first))
    return s


def steps(s: State, rules: Rules = RIGHT) -> list[tuple[str, State]]:
    """Return everything that can happen next."""
    if s.fault:
        return []
    found = chain(_clients(s), _leader(s, rules), _leases(s, rules), *(_process(s, n, rules) for n in JOBS))
    return [
        (label, _mirrored(after if label not in ACCIDENTS else after._replace(crashes=s.crashes - 1)))
        for label, after in found
        if label not in ACCIDENTS or s.crashes
    ]


def _clients(s: State) -> list[tuple[str, State]]:
    found = []
    for job in JOBS:
        if s.jobs[job].row == "queue" or s.jobs[job].row in UNSTARTED:
            found.append(("job is cancelled", _end(s, job, "cancelled")))  # noqa: PERF401
    found += [
        ("broker loses a message", s._replace(messages=s.messages - {message})) for message in s.messages
    ]
    return found


def _leader(s: State, rules: Rules) -> list[tuple[str, State]]:
    """Return claims, and what becomes of their messages; of a job alone that is one step."""
    found = []
    for job in JOBS:
        if s.jobs[job].row in {"queue", "claimed"}:
            marked = _job(s, job, row="sent")
            sent = marked._replace(messages=s.messages | {frozenset({job})})
            found.append(("leader publishes a job", sent))
            found.append(("leader dies", marked))  # so may the next one, before it takes the mark back
            if s.jobs[job].row == "queue":
                found.append(
                    ("publish fails", _job(s, job, row="claimed" if rules.revert_unsent else "sent"))
                )
    waiting = [job for job in JOBS if s.jobs[job].row == "queue" and not s.jobs[job].lost]
    if len(waiting) > 1:
        both = s
        for job in waiting:
            both = _job(both, job, row="sent", shared=True)
        found.append(("leader claims a bundle", both._replace(sending=frozenset(waiting))))
    if s.sending:
        unsent = s._replace(sending=frozenset())
        found.append(("leader publishes the bundle", unsent._replace(messages=s.messages | {s.sending})))
        found.append(("leader dies", unsent))
        for job in s.sending if rules.revert_unsent else ():
            if s.jobs[job].row == "sent":
                unsent = _unpublished(unsent, job, rules)
        found.append(("publish fails", unsent))
    return found


def _unpublished(s: State, job: int, rules: Rules) -> State:
    """Let the next claim return an unstarted job."""
    if s.jobs[job].shared and rules.return_shared:
        return _end(s, job, "queue")
    return _job(s, job, row="claimed")


def _leases(s: State, rules: Rules) -> list[tuple[str, State]]:
    """Return the ends of leases: nobody renews them, or nobody can."""
    found: list[tuple[str, State]] = []
    for job in JOBS if rules.leases_end else ():
        row = s.jobs[job].row
        if row == "sent" and job not in s.sending:
            found.append(("lease of an unstarted job ends", _unpublished(s, job, rules)))
        if not row.startswith("started"):
            continue
        if row == "started -":
            found.append(("lease of a started job ends", _lose(s, job)))
            continue
        process = s.processes[int(row[-1])]
        if process.dead:
            continue  # its main process abandons the job long before
        place, later = process.loop[job], process.later[job]
        if place == "late" or later in {"later", "vouched"}:
            unrenewed = later == "later" and not rules.renew_unsettled
            label = "lease of a started job ends" if unrenewed else "lease ends during an outage"
            found.append((label, _lose(s, job)))
        elif (place == "slow" and not rules.renew_slow) or not (place or later):
            after = _lose(s, job)
            if not s.jobs[job].ran and rules.spent:
                after = _fault(after, "attempt spent that did not run")
            found.append(("lease of a started job ends", after))
    return found


def _process(s: State, number: int, rules: Rules) -> list[tuple[str, State]]:
    process = s.processes[number]
    if process.dead:
        return [
            ("main process abandons the bundle", _abandoned(s, number, rules, ended=True)),
            *([("worker dies", _vanish(s, number))] if s.crashes else []),
        ]
    found = [*_background(s, number, rules), *_loop(s, number, rules)]
    busy = any(process.loop) or any(process.later)
    if s.crashes and busy:
        found.append(("worker dies", _vanish(s, number)))
        dead = _orphan(s, number, [job for job in JOBS if not process.message[job]])
        dead = dead._replace(
            processes=_put(dead.processes, number, Process(message=process.message, dead=True))
        )
        found.append(("child dies", dead._replace(crashes=s.crashes - 1)))
    if any(process.loop) and not rules.abandon_dead_only:
        found.append(("main process abandons the bundle", _abandoned(s, number, rules, ended=False)))
    return found


def _orphan(s: State, number: int, jobs: list[int]) -> State:
    """Let rows stand as started by a process that no longer exists."""
    for job in jobs:
        if s.jobs[job].row == f"started {number}":
            s = _job(s, job, row="started -")
    return s


def _vanish(s: State, number: int) -> State:
    """A worker dies as a whole, or its machine: nobody abandons anything."""
    gone = _orphan(s, number, [*JOBS])
    return gone._replace(processes=_put(gone.processes, number, Process()), crashes=max(0, s.crashes - 1))


def _abandoned(s: State, number: int, rules: Rules, *, ended: bool) -> State:
    for job in JOBS:
        row = s.jobs[job].row
        if not s.processes[number].message[job]:
            continue
        if row == f"started {number}":
            s = _lose(s, job)
        elif row in UNSTARTED and rules.abandon_unbegun:
            s = _end(s, job, "queue")
        elif row in UNSTARTED:
            if rules.spent:
                s = _fault(s, "attempt spent that did not run")
            elif s.jobs[job].lost:
                s = _fault(s, "job dead that no process began")
            s = _lose(s, job)
    return s._replace(processes=_put(s.processes, number, Process())) if ended else s


def _background(s: State, number: int, rules: Rules) -> list[tuple[str, State]]:
    """Return what the background thread sends: settlements and hand backs, each as often as it takes."""
    found = []
    for job in JOBS:
        what, row = s.processes[number].later[job], s.jobs[job].row
        if not what:
            continue
        after, mine = _at(s, number, job, later=""), row == f"started {number}"
        current = row in UNSTARTED or row.startswith("started")
        named = not rules.by_claim and current
        if what == "later" or (what == "later!" and named):
            after = _end(after, job, "done")
            if what == "later!":
                after = _fault(after, "another attempt settled")
            found.append(("process settles in the background", after))
        elif what == "later!":
            found.append(("a late settlement is ignored", after))
        elif what == "vouched" or (what == "vouched!" and named and (mine or row in UNSTARTED)):
            after = _end(after, job, "queue")
            if what == "vouched!" and mine:
                after = _fault(after, "another attempt handed back")
            found.append(("process hands back", after))
        elif what == "unbegun" and (row in UNSTARTED or (mine and not rules.unbegun_by_nobody)):
            if s.processes[number].loop[job] in RUNNING:
                after = _fault(after, "running job handed back")
            found.append(("process hands back", _end(after, job, "queue")))
        else:  # started meanwhile, or by now another attempt
            found.append(("a hand back finds nothing", after))
    return found


def _loop(s: State, number: int, rules: Rules) -> list[tuple[str, State]]:
    """Return the steps of a child's loop, and of the watch."""
    loop = s.processes[number].loop
    current = [job for job in JOBS if loop[job] in RUNNING]
    begun = [job for job in JOBS if loop[job] in BEGUN]
    if current:
        return _current(s, number, current[0], rules)
    if begun:
        return _take(s, number, begun, rules)
    if any(loop):
        return _statement(s, number, rules)
    found = []
    for message in s.messages:
        after = s._replace(messages=s.messages - {message})
        for job in message:
            after = _at(after, number, job, loop="rest")
        held = s.processes[number]._replace(
            loop=after.processes[number].loop, message=tuple(j in message for j in JOBS)
        )
        after = after._replace(processes=_put(after.processes, number, held))
        found.append(("process takes a message", after))
        if s.copies:
            twice = after._replace(messages=s.messages, copies=s.copies - 1)
            found.append(("broker delivers twice", twice))
    return found


def _current(s: State, number: int, job: int, rules: Rules) -> list[tuple[str, State]]:
    loop = s.processes[number].loop
    place = loop[job]
    ended = "" if place.endswith("!") else "ended"
    if ended and not rules.start_before_body:  # wrong: it takes the job only now
        row = s.jobs[job].row
        marked = _job(s, job, row=f"started {number}") if row in UNSTARTED else s
        found = [("body ends", _at(marked, number, job, loop=ended if marked is not s else ""))]
    else:
        found = [("body ends", _at(s, number, job, loop=ended))]
    if place == "runs":  # it lasts: the others must not wait
        after = _at(s, number, job, loop="slow")
        for other in JOBS:
            if other != job:
                after = _split(after, number, other, rules)
        found.append(("watch splits the bundle", after))
    return found


def _split(s: State, number: int, job: int, rules: Rules) -> State:
    """Take a job away from the loop, and give it to the background thread."""
    place = s.processes[number].loop[job]
    match place:
        case "ended":
            return _at(s, number, job, loop="", later="later")
        case "rest" | "begun" | "late":
            what = "unbegun" if place == "rest" else "vouched"
            if s.processes[number].later[job] in {"later", "vouched"}:
                what = s.processes[number].later[job]  # both are sent, and of a started job this one counts
            kept = {} if rules.take_away else {"loop": place}
            return _at(s, number, job, **{"loop": "", **kept}, later=what if rules.hand_back else "")
    return _at(s, number, job, loop="") if place in BEGUN else s


def _take(s: State, number: int, begun: list[int], rules: Rules) -> list[tuple[str, State]]:
    """Run the body of the first job that has begun; none that is late."""
    loop = s.processes[number].loop
    late = any(loop[job].startswith("late") for job in begun)
    if late and rules.not_late:
        after = s
        for job in begun:
            after = _split(after, number, job, rules)
        return [("process hands back what is late", after)]
    found = [("body begins", _body(s, number, begun[0]))]
    if not late:
        after = s
        for job in begun:
            after = _at(after, number, job, loop=loop[job].replace("begun", "late"))
        found.append(("begun jobs are late", after))
    return found


def _body(s: State, number: int, job: int) -> State:
    place = s.processes[number].loop[job]
    after = _at(s, number, job, loop="runs")
    if place.endswith("!"):
        return _fault(after, "body begins of an attempt that has ended")
    if s.jobs[job].ran:
        return _fault(after, "attempt starts twice")
    if any(p.loop[job] in RUNNING for p in s.processes):
        return _fault(after, "two bodies of a job")
    if all(s.jobs[each].shared for each in JOBS) and any(
        place in {"runs", "slow"} for p in s.processes for place in p.loop
    ):
        return _fault(after, "two bodies in one place")
    return _job(after, job, ran=True)


def _statement(s: State, number: int, rules: Rules) -> list[tuple[str, State]]:
    """Settle what has ended, and begin some of the rest, in one transaction; or leave."""
    loop = s.processes[number].loop
    ended = [job for job in JOBS if loop[job] == "ended"]
    rest = [job for job in JOBS if loop[job] == "rest"]
    unsettled = s
    for job in ended:
        unsettled = _at(unsettled, number, job, loop="", later="later")
    found = []
    if ended:
        found.append(("row of an ended job is locked", unsettled))  # nothing has changed
    if rest:
        left = unsettled
        for job in rest:
            left = _split(left, number, job, rules)
        # the worker stops, the database is away, or another transaction holds the row of a next job
        found.append(("process stops early", left))
    if rest and not rules.start_before_body:
        return [*found, ("body begins", _body(_settled(s, number, ended), number, rest[0]))]
    if not rules.one_transaction and ended:
        if rules.settle_first or not rest:
            return [*found, ("process settles", _settled(s, number, ended))]
        begins = [
            ("process begins the next", _begin(s, number, rest[:count], rules))
            for count in range(1, len(rest) + 1)
        ]
        return [*found, *begins, ("process settles", _settled(s, number, ended))]
    for count in range(len(rest) + 1) if ended else range(1, len(rest) + 1):
        if count == 0 and rest:
            continue
        after = _begin(_settled(s, number, ended), number, rest[:count], rules)
        found.append(("process settles and begins", after))
        if rest:
            found.append(("answer is lost", _unanswered(s, after, number, rules)))
    return found


def _settled(s: State, number: int, ended: list[int]) -> State:
    for job in ended:
        s = _end(_at(s, number, job, loop=""), job, "done")
    return s


def _begin(s: State, number: int, wanted: list[int], rules: Rules) -> State:
    held = any(s.jobs[job].row.startswith("started") for job in wanted)
    if held and rules.stop_if_held:
        for job in JOBS:
            if s.processes[number].loop[job] == "rest":
                s = _split(s, number, job, rules)
        return s
    for job in wanted:
        if s.jobs[job].row in UNSTARTED:
            s = _at(_job(s, job, row=f"started {number}"), number, job, loop="begun")
        else:  # started elsewhere
            s = _at(s, number, job, loop="")
    return s


def _unanswered(before: State, after: State, number: int, rules: Rules) -> State:
    """The statement has committed or not, and its process does not know: here, what is worse."""
    if not rules.doubt_is_not_started:
        doubted = before  # wrong: it runs the bodies, though nothing was committed
        for job in JOBS:
            if after.processes[number].loop[job] == "begun":
                doubted = _at(doubted, number, job, loop="begun")
        for job in JOBS:
            if doubted.processes[number].loop[job] == "ended":
                doubted = _at(doubted, number, job, loop="", later="later")
        return doubted
    for job in JOBS:
        place = after.processes[number].loop[job]
        if place == "begun":
            after = _orphan(_at(after, number, job, loop=""), number, [job])
        elif place == "rest":
            after = _split(after, number, job, rules)
    return after


def wrong(s: State) -> str | None:
    return s.fault


def calm(s: State) -> bool:
    return all(job.row in FINAL for job in s.jobs)
