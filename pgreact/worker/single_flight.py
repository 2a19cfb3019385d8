"""Single flight: at most one run and one waiter per route, on all machines, by two advisory locks.

- RUN is held while the body runs.
- NEXT is held by the one message that waits for RUN. Its transaction must end while that of RUN goes on, so
  each run has two sessions.

Both are transaction locks: they work behind a pooler, and are freed when the process dies. The cases of a
message:

============== ================ ============================== ==========================================
RUN            NEXT             the message                    the daemon is notified
============== ================ ============================== ==========================================
free           any              runs                           ``started``, then ``done`` or ``failed``
taken          free             waits for RUN, then runs       the same
taken          taken            is dropped                     ``dropped``
lost while the body runs        runs on; a warning is logged   ``done`` or ``failed``
cannot be taken                 does not run: ``NotGuarded``   ``dropped``, if a session is left
============== ================ ============================== ==========================================

A dropped message loses no work: the waiter starts later and does it. Since the waiter may die, the daemon
publishes again after ``dropped``. ``docs/protocols.md`` has the protocol, and ``tests/model`` explores it.
"""

import atexit
import contextlib
import logging
import os
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import NamedTuple, TypeVar

from pgreact.errors import NotGuarded
from pgreact.postgres.errors import ErrorKind
from pgreact.wakeup.notification import RunState, run_changed
from pgreact.worker import counters
from pgreact.worker.session import INHERITED, Session, meant
from pgreact.worker.trouble import Trouble, with_retries

R = TypeVar("R")

# The classes of the advisory locks, whose object is the route's id. The same as in
# sql/functions/lock_class.sql, which a worker's role need not be allowed to call.
RUN = 1885827690
NEXT = 1885827691
TIMEOUT = 5.0  # seconds that one statement waits for RUN, and holds back vacuum; then the next one waits
_MARGIN = 5.0  # seconds that its answer may take beyond that

_log = logging.getLogger("pgreact.worker")
# The flights that this thread (or greenlet) runs: (dsn, route) and (task id, route).
_entered: ContextVar[frozenset[tuple[str, int]]] = ContextVar("entered", default=frozenset())


class _Pair(NamedTuple):
    run: Session  # the transaction of RUN, around the body; its commit notifies of the end
    next: Session  # the transaction of NEXT, before the body; its commit notifies of the start
    pid: int


class _Flight(NamedTuple):
    route: int
    task_id: str
    timeout: float

    def payload(self, status: RunState) -> str:
        """Return the notification for the daemon."""
        return run_changed(self.route, self.task_id, status)

    def lock(self, lock: int) -> dict[str, object]:
        """Return the parameters of the queries that take a lock."""
        return {"lock": lock, "route": self.route, "timeout_ms": f"{self.timeout * 1000:.0f}"}

    def __str__(self) -> str:
        return f"route {self.route}, task {self.task_id}"


class SingleFlight:
    """Run bodies under the locks of one database. All threads of a process share one."""

    def __init__(self, dsn: str, timeout: float = TIMEOUT) -> None:
        """Prepare; the first run connects.

        Args:
            dsn: As libpq reads it. It must lead to the daemon's database, since locks and notifications stay
                in one; a pooler in transaction mode may stand between.
            timeout: Seconds that one statement waits for RUN, and a message for a database that is away.
        """
        self.start_trouble = Trouble("flight.start_failed", "flight.start_recovered")
        self._dsn = dsn
        self._timeout = timeout
        self._idle: deque[_Pair] = deque()
        _instances.add(self)

    def run(
        self,
        route: int,
        task_id: str,
        body: Callable[[], R],
        clean_exits: tuple[type[BaseException], ...] = (),
    ) -> R | None:
        """Run the body once no other runs for this route; drop it if another waits already.

        Within a run of the same route, call the body at once.

        Args:
            route: The route's id.
            task_id: By which the daemon knows this message.
            body: What to run.
            clean_exits: Exceptions after which the run counts as done, not as failed.

        Returns:
            The body's result; ``None`` if it was dropped.

        Raises:
            NotGuarded: The locks cannot be taken; the body was not called.
            ConfigError: libpq cannot read the DSN; the body was not called.
        """
        keys = {(self._dsn, route), (task_id, route)}
        if _entered.get() & keys:
            return body()
        flight = _Flight(route, task_id, self._timeout)
        pair = self._lend()
        try:
            if not _start(pair, flight):
                counters.add("flights_dropped")
                return None
            counters.add("flights_run")
            token = _entered.set(_entered.get() | keys)
            status: RunState = "failed"
            try:
                result = body()
                status = "done"
            except clean_exits:
                status = "done"
                raise
            finally:
                _entered.reset(token)
                _end(pair, flight, status)
            return result
        finally:
            self._take_back(pair)

    def close(self) -> None:
        """Close the sessions that are not lent."""
        while self._idle:
            with contextlib.suppress(IndexError):
                pair = self._idle.pop()
                pair.run.close()
                pair.next.close()

    def _lend(self) -> _Pair:
        # Lent, not one per thread: their number is that of the most runs at a time, whatever the threads do.
        # The methods of deque are atomic: a fork could leave a lock locked.
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        timeout = self._timeout + _MARGIN
        return _Pair(Session(self._dsn, timeout), Session(self._dsn, timeout), os.getpid())

    def _take_back(self, pair: _Pair) -> None:
        if pair.pid != os.getpid():
            INHERITED.append(pair)
            return
        pair.run.roll_back()
        pair.next.roll_back()
        self._idle.append(pair)

    def _disown(self) -> None:
        INHERITED.extend(self._idle)
        self._idle = deque()


_instances: weakref.WeakSet[SingleFlight] = weakref.WeakSet()


def _after_fork() -> None:
    for instance in list(_instances):
        instance._disown()


def _at_exit() -> None:
    for instance in list(_instances):
        instance.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)


def _start(pair: _Pair, flight: _Flight) -> bool:
    """Take RUN, and wait for it if necessary; return false if the message is dropped."""
    try:
        if _try_lock(pair.run, flight, RUN):
            _notify(pair.next, flight, "started")
            return True
        if not _try_lock(pair.next, flight, NEXT):
            _log.info("flight.dropped: %s: one runs and one waits already", flight)
            pair.run.roll_back()
            pair.next.roll_back()
            _notify(pair.next, flight, "dropped")
            return False
        _log.debug("flight.waiting: %s: another runs", flight)
        trouble = Trouble("flight.wait_failed", "flight.wait_recovered")
        while not _wait(pair, flight, trouble):
            pass
        _start_after_wait(pair, flight)
    except NotGuarded as error:
        _release(pair, flight)
        raise NotGuarded(f"{flight}: cannot be guarded, so it does not run: {error}") from error
    except BaseException:
        _release(pair, flight)  # interrupted, for example by a time limit
        raise
    return True


def _try_lock(session: Session, flight: _Flight, lock: int) -> bool:
    """Begin a transaction and try a lock; return whether it was free."""

    def begin() -> bool:
        session.roll_back()  # of the try before
        return bool(session.execute("flight_begin", **flight.lock(lock)))

    return with_retries(begin, flight.timeout)


def _notify(session: Session, flight: _Flight, status: RunState) -> None:
    """Notify the daemon, in a transaction of its own."""
    payload = flight.payload(status)
    with_retries(lambda: session.execute("flight_notify", payload=payload), flight.timeout)


def _wait(pair: _Pair, flight: _Flight, trouble: Trouble) -> bool:
    """Wait for RUN by one statement; return whether it is held."""
    try:
        held = bool(pair.run.execute_connected("flight_wait", **flight.lock(RUN)))
    except NotGuarded as error:
        if meant(error) not in {ErrorKind.LOST, ErrorKind.TRANSIENT}:
            raise
        time.sleep(trouble.failed(error, f"{flight}: waits for another run"))
    else:
        trouble.recovered(str(flight))
        return held
    # That transaction is over and held no lock. The one of NEXT may be as it was.
    return _try_lock(pair.run, flight, RUN)


def _start_after_wait(pair: _Pair, flight: _Flight) -> None:
    # NEXT is freed before the body begins: a message dropped later is dropped because of another waiter.
    with contextlib.suppress(NotGuarded):
        pair.next.execute_connected("flight_notify", "commit", payload=flight.payload("started"))
        return
    pair.next.close()  # which frees NEXT
    _notify(pair.next, flight, "started")


def _release(pair: _Pair, flight: _Flight) -> None:
    """Free both locks; notify the daemon, if a session is left, that the work is still to be done."""
    pair.run.roll_back()
    pair.next.roll_back()
    for session in (pair.next, pair.run):
        if session.usable:
            with contextlib.suppress(NotGuarded):
                session.execute_connected("flight_notify", payload=flight.payload("dropped"))
                return


def _end(pair: _Pair, flight: _Flight, status: RunState) -> None:
    """Free RUN and notify the daemon in one commit: a worker that is killed does both or neither."""
    if pair.pid != os.getpid():
        return  # a process that the body forked has returned here, too; the run goes on in its parent
    try:
        pair.run.execute_connected("flight_notify", "commit", payload=flight.payload(status))
    except NotGuarded as error:
        if not pair.run.connected:
            _log.warning(
                "flight.lock_lost: %s: the session that held its lock broke, another may have run meanwhile: "
                "%s",
                flight,
                error,
            )
        pair.run.close()  # if the server refused, the lock was held until now
        try:
            _notify(pair.next, flight, status)
        except NotGuarded as unsent:
            # the daemon sees that the lock is free and that no notification came
            _log.warning(
                "flight.notify_failed: %s: cannot notify the daemon that it is %s: %s", flight, status, unsent
            )
