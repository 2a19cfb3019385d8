"""One run and one waiter per route, on all machines together: the worker's half of "single flight".

Two locks of PostgreSQL, each held by a transaction (so behind a pooler, too, and gone with the process):

- RUN is held as long as the body runs,
- NEXT is held by the one who waits for RUN. They are in two transactions, hence on two connections, since
  NEXT must end while RUN goes on.

Who finds both taken may be dropped: the waiter begins after now, and does its work. But the waiter may die.
So the daemon is told, and publishes again once NEXT is free. ``docs/protocols.md`` has the whole story, and
``tests/model`` explores it.
"""

import atexit
import contextlib
import logging
import os
import re
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Literal, NamedTuple, TypeVar

from pgreact.errors import NotGuarded
from pgreact.postgres.errors import Meaning
from pgreact.worker.session import Session, meant
from pgreact.worker.trouble import Trouble, patiently

Word = Literal["started", "done", "failed", "dropped"]
R = TypeVar("R")

# The classes of the advisory locks, whose object is the route's id. As in sql/functions/lock_class.sql,
# which a worker's role need not be allowed to call.
RUN = 1885827690
NEXT = 1885827691
PATIENCE = 5.0  # seconds a statement waits for RUN, and holds back vacuum, before it asks anew
_BEYOND = 5.0  # seconds that its answer may take beyond that

_log = logging.getLogger("pgreact.worker")
# What this thread (or greenlet) is running: (dsn, route) and (task id, route).
_flying: ContextVar[frozenset[tuple[str, int]]] = ContextVar("flying", default=frozenset())


class _Pair(NamedTuple):
    run: Session  # RUN's transaction, around the body; tells how it ended
    next: Session  # NEXT's transaction, before the body; tells that it starts
    pid: int


class _Flight(NamedTuple):
    route: int
    task_id: str
    patience: float

    def payload(self, word: Word) -> str:
        """Return what the daemon is told."""
        task_id = self.task_id if re.fullmatch(r"\S{1,255}", self.task_id) else "-"
        return f"flight {self.route} {task_id} {word}"

    def lock(self, lock: int) -> dict[str, object]:
        """Return the parameters of the queries that take a lock."""
        return {"lock": lock, "route": self.route, "patience_ms": f"{self.patience * 1000:.0f}"}

    def __str__(self) -> str:
        return f"route {self.route}, task {self.task_id}"


class Flights:
    """Runs bodies guarded by the locks of one database; shared by all threads of a process."""

    def __init__(self, dsn: str, patience: float = PATIENCE) -> None:
        """Remember where to connect; the first run does.

        Args:
            dsn: As libpq reads it. It must lead to the daemon's database, since locks and notifications are
                per database; a pooler in transaction mode may stand between.
            patience: Seconds a statement waits for RUN before it asks anew, and a message for a database that
                is away.
        """
        self.taking = Trouble("flight.untaken", "flight.taken")
        self._dsn = dsn
        self._patience = patience
        self._idle: deque[_Pair] = deque()
        _every.add(self)

    def run(
        self,
        route: int,
        task_id: str,
        body: Callable[[], R],
        finishes: tuple[type[BaseException], ...] = (),
    ) -> R | None:
        """Run the body when no other runs for this route; drop it when another waits already.

        Inside a run of the same route it is just called.

        Args:
            route: The route's id.
            task_id: What the daemon knows this call by.
            body: What to run.
            finishes: Exceptions by which a body ends in order: it counts as done, not as failed.

        Returns:
            What the body returned; ``None`` if it was dropped.

        Raises:
            NotGuarded: The locks cannot be had; the body was not called.
            ConfigError: The DSN is none; the body was not called.
        """
        keys = {(self._dsn, route), (task_id, route)}
        if _flying.get() & keys:
            return body()
        flight = _Flight(route, task_id, self._patience)
        pair = self._lend()
        try:
            if not _take_off(pair, flight):
                return None
            token = _flying.set(_flying.get() | keys)
            word: Word = "failed"
            try:
                result = body()
                word = "done"
            except finishes:
                word = "done"
                raise
            finally:
                _flying.reset(token)
                _land(pair, flight, word)
            return result
        finally:
            self._take_back(pair)

    def close(self) -> None:
        """End the connections that are not in use."""
        while self._idle:
            with contextlib.suppress(IndexError):
                pair = self._idle.pop()
                pair.run.close()
                pair.next.close()

    def _lend(self) -> _Pair:
        # Not one pair per thread: there are as many as ever ran at a time, whatever the pool does to threads.
        # And deque's own methods are atomic: a lock could be left locked by a fork.
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        bound = self._patience + _BEYOND
        return _Pair(Session(self._dsn, bound), Session(self._dsn, bound), os.getpid())

    def _take_back(self, pair: _Pair) -> None:
        if pair.pid != os.getpid():
            _left_behind.append(pair)
            return
        pair.run.roll_back()
        pair.next.roll_back()
        self._idle.append(pair)

    def _forget(self) -> None:
        _left_behind.extend(self._idle)
        self._idle = deque()


_every: weakref.WeakSet[Flights] = weakref.WeakSet()
_left_behind: list[_Pair] = []  # pairs of other processes, kept so that nothing tidies them away


def _after_fork() -> None:
    for flights in list(_every):
        flights._forget()


def _at_exit() -> None:
    for flights in list(_every):
        flights.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)


def _take_off(pair: _Pair, flight: _Flight) -> bool:
    """Return once the body may begin; false: it must not, since another waits."""
    try:
        if _begin(pair.run, flight, RUN):
            _notify(pair.next, flight, "started")
            return True
        if not _begin(pair.next, flight, NEXT):
            _log.info("flight.dropped: %s: one runs and one waits already", flight)
            pair.run.roll_back()
            pair.next.roll_back()
            _notify(pair.next, flight, "dropped")
            return False
        _log.debug("flight.waiting: %s: another runs", flight)
        waiting = Trouble("flight.interrupted", "flight.resumed")
        while not _wait(pair, flight, waiting):
            pass
        _begin_after_waiting(pair, flight)
    except NotGuarded as error:
        _give_up(pair, flight)
        raise NotGuarded(f"{flight}: cannot be guarded, so it does not run: {error}") from error
    except BaseException:
        _give_up(pair, flight)  # interrupted, for example by a time limit
        raise
    return True


def _begin(session: Session, flight: _Flight, lock: int) -> bool:
    """Begin a transaction, and return whether it got a lock."""

    def begin() -> bool:
        session.roll_back()  # of a try before this one
        return bool(session.first("flight_begin", **flight.lock(lock)))

    return patiently(begin, flight.patience)


def _notify(session: Session, flight: _Flight, word: Word) -> None:
    """Tell the daemon, in a transaction of its own."""
    patiently(lambda: session.first("flight_notify", payload=flight.payload(word)), flight.patience)


def _wait(pair: _Pair, flight: _Flight, waiting: Trouble) -> bool:
    try:
        held = bool(pair.run.then("flight_wait", **flight.lock(RUN)))
    except NotGuarded as error:
        if meant(error) not in {Meaning.LOST, Meaning.PASSING}:
            raise
        time.sleep(waiting.failed(error, f"{flight}: waits for another run"))
    else:
        waiting.over(str(flight))
        return held
    # The transaction ended, with nothing in it but the wait. NEXT may be as it was.
    return _begin(pair.run, flight, RUN)


def _begin_after_waiting(pair: _Pair, flight: _Flight) -> None:
    # NEXT ends before the body begins: who is dropped from now on is dropped because of another waiter.
    with contextlib.suppress(NotGuarded):
        pair.next.then("flight_notify", "commit", payload=flight.payload("started"))
        return
    pair.next.close()  # and with it goes NEXT
    _notify(pair.next, flight, "started")


def _give_up(pair: _Pair, flight: _Flight) -> None:
    """Free both locks, and tell the daemon if a connection is left: the work is still to be done."""
    pair.run.roll_back()
    pair.next.roll_back()
    for session in (pair.next, pair.run):
        if session.usable:
            with contextlib.suppress(NotGuarded):
                session.then("flight_notify", payload=flight.payload("dropped"))
                return


def _land(pair: _Pair, flight: _Flight, word: Word) -> None:
    """Free RUN and tell the daemon, in one commit: a worker that is killed does neither by halves."""
    if pair.pid != os.getpid():
        return  # a process that the body forked came back here, too; the run is not over
    try:
        pair.run.then("flight_notify", "commit", payload=flight.payload(word))
    except NotGuarded as error:
        if not pair.run.connected:
            _log.warning(
                "flight.unguarded: %s: the session that held its lock broke, another may have run meanwhile: "
                "%s",
                flight,
                error,
            )
        pair.run.close()  # if it refused, the lock was held until now
        try:
            _notify(pair.next, flight, word)
        except NotGuarded as unheard:
            # the daemon sees that the lock is free and that nobody said a word
            _log.warning("flight.unheard: %s: cannot tell that it is %s: %s", flight, word, unheard)
