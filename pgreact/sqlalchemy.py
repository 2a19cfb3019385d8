"""A SQLAlchemy session's transaction as that of ``delay()``: ``pgreact.setup(app, transactional=Session)``.

The session of a call:

===================== ====================================================================================
factory               the session
===================== ====================================================================================
``scoped_session``,   that of the current scope
its asynchronous twin
``sessionmaker``,     of the factory's sessions that began a transaction in this context (thread or asyncio
its asynchronous twin task), or used theirs here, the most recent one whose transaction is still open
===================== ====================================================================================

A synchronous session enqueues the job at once, by one statement in its transaction. ``delay()`` cannot wait
for an :class:`AsyncSession`: its jobs are kept, and written by one statement before each commit, of the
transaction or a savepoint, where the session may run SQL. Each kept job has an owner, the innermost savepoint
(or the transaction) in which it was called:

=============================== ==========================================================================
the transaction or savepoint    its jobs
=============================== ==========================================================================
commits                         are written, since the event comes before SQLAlchemy's own commit
has committed (a savepoint)     belong to the one around it
ends without a commit           are dropped; those of others, written in it, are to be written again
=============================== ==========================================================================
"""

import dataclasses
import weakref
from contextvars import ContextVar
from typing import Any, cast

from sqlalchemy import event
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_session, async_sessionmaker
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction, scoped_session, sessionmaker

from pgreact.queue.connections import Call, run
from pgreact.worker.transaction_source import Source

_KEPT = "pgreact_kept"  # in the info of an asynchronous session

AnySession = Session | AsyncSession | scoped_session[Any] | async_scoped_session[Any]
AnyFactory = sessionmaker[Any] | async_sessionmaker[Any] | scoped_session[Any] | async_scoped_session[Any]


def source_of(factory: AnyFactory) -> Source:
    """Return the source that finds the open transaction of a factory's sessions."""
    if isinstance(factory, scoped_session | async_scoped_session):
        return _Scope(factory)
    return _Factory(factory)


def enqueue(session: AnySession, payload: str) -> bool:
    """Enqueue a job in the transaction of a session; see :class:`pgreact.worker.transaction_source.Source`.

    Args:
        session: The session.
        payload: The job.
    """
    if isinstance(session, scoped_session | async_scoped_session):
        if not session.registry.has():
            return False
        session = cast("Session | AsyncSession", session.registry())
    plain = session.sync_session if isinstance(session, AsyncSession) else session
    transaction = plain.get_transaction()
    if transaction is None or transaction in _committed:
        return False
    if async_session(plain) is not None:
        return _Kept.of(plain).add(plain, payload)
    _write(plain, [payload])
    return True


# Transactions that have committed, and end after the listeners of that: what these call is outside.
_committed: "weakref.WeakSet[SessionTransaction]" = weakref.WeakSet()


def _on_commit(session: Session) -> None:
    transaction = session.get_transaction()
    if transaction is not None and session.get_nested_transaction() is None:
        _committed.add(transaction)


def _write(session: Session, payloads: list[str]) -> None:
    if len(payloads) == 1:
        call = Call("enqueue", {"jobs": payloads[0]}, _nothing)
    else:
        call = Call("enqueue_many", {"jobs": f"[{','.join(payloads)}]"}, _nothing)
    with session.no_autoflush:  # objects of the application may not be complete yet
        run(session, call)


def _nothing(_rows: object) -> None:
    return None


class _Scope:
    """The session of the current scope."""

    def __init__(self, registry: "scoped_session[Any] | async_scoped_session[Any]") -> None:
        self._registry = registry
        if isinstance(registry.session_factory, sessionmaker | async_sessionmaker):  # not a plain function
            event.listen(_target(registry.session_factory), "after_commit", _on_commit)

    def enqueue(self, payload: str) -> bool:
        return enqueue(self._registry, payload)


# a session, and its transaction: the session may be in another one by now
_Open = tuple["weakref.ref[Session]", "weakref.ref[SessionTransaction]"]


class _Factory:
    """The sessions of a factory whose transactions are open, by context."""

    def __init__(self, factory: "sessionmaker[Any] | async_sessionmaker[Any]") -> None:
        # an immutable value: a task of asyncio inherits that of the task that created it
        self._open: ContextVar[tuple[_Open, ...]] = ContextVar("pgreact_open_sessions", default=())
        target = _target(factory)
        event.listen(target, "after_transaction_create", self._on_create)
        # a framework may have begun the transaction in another thread's context
        event.listen(target, "before_attach", lambda session, _instance: self._on_use(session))
        event.listen(target, "do_orm_execute", self._on_execute)
        event.listen(target, "after_begin", lambda session, *_: self._on_use(session))
        event.listen(target, "after_commit", _on_commit)

    def enqueue(self, payload: str) -> bool:
        for session, transaction in reversed(self._open.get()):
            found = session()
            if found is not None and _is_open(found, transaction()):
                return enqueue(found, payload)
        return False

    def _on_create(self, session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is None:
            self._on_use(session)

    def _on_execute(self, state: ORMExecuteState) -> None:
        self._on_use(state.session)

    def _on_use(self, session: Session) -> None:
        current = session.get_transaction()
        known = self._open.get()
        if current is None or any(transaction() is current for _, transaction in known):
            return
        live = (entry for entry in known if (found := entry[0]()) is not None and _is_open(found, entry[1]()))
        self._open.set((*live, (weakref.ref(session), weakref.ref(current))))


def _is_open(session: Session, transaction: SessionTransaction | None) -> bool:
    return (
        transaction is not None and session.get_transaction() is transaction and transaction not in _committed
    )


def _target(factory: Any) -> Any:
    """Return the target for the events of a factory's sessions: an asynchronous one gets a class for that."""
    if not isinstance(factory, async_sessionmaker):
        return factory
    base = factory.kw.get("sync_session_class") or factory.class_.sync_session_class
    if isinstance(base, sessionmaker):
        return base
    own = type(base.__name__, (base,), {"__module__": base.__module__})
    factory.configure(sync_session_class=own)
    return own


@dataclasses.dataclass
class _Job:
    payload: str
    owner: SessionTransaction
    written: SessionTransaction | None = None  # where it was


class _Kept:
    """The jobs of an asynchronous session's transaction."""

    def __init__(self) -> None:
        self._jobs: list[_Job] = []
        self._commits = 0  # in progress: that of the transaction may begin with those of open savepoints
        self._committed: SessionTransaction | None = None  # the last one, a savepoint or a transaction

    @classmethod
    def of(cls, session: Session) -> "_Kept":
        """Return those of a session; listen to its events from the first call on."""
        found = session.info.get(_KEPT)
        if not isinstance(found, cls):
            found = session.info[_KEPT] = cls()
            event.listen(session, "before_commit", found._on_commit)
            event.listen(session, "after_commit", found._on_committed)
            event.listen(session, "after_transaction_end", found._on_end)
        return found

    def add(self, session: Session, payload: str) -> bool:
        """Keep a job; in the middle of a commit, where later listeners call, write it at once.

        Returns:
            False: the transaction has committed.

        Raises:
            InvalidRequestError: The transaction can only be rolled back.
        """
        owner = _innermost(session)
        if owner is self._committed:
            if owner.parent is None:
                return False
            owner = _around(owner)
        elif not owner.is_active:
            raise InvalidRequestError(
                "delay() was called in a transaction that failed: roll back, then call it"
            )
        self._jobs.append(_Job(payload, owner))
        if self._commits:
            self._write(session)
        return True

    def _on_commit(self, session: Session) -> None:
        self._write(session)
        self._commits += 1

    def _write(self, session: Session) -> None:
        due = [job for job in self._jobs if job.written is None]
        if due:
            _write(session, [job.payload for job in due])
        for job in due:
            job.written = _innermost(session)

    def _on_committed(self, session: Session) -> None:
        self._commits -= 1
        ended = self._committed = _innermost(session)
        if ended.parent is None:
            return
        around = _around(ended)
        for job in self._jobs:
            job.owner = around if job.owner is ended else job.owner
            job.written = around if job.written is ended else job.written

    def _on_end(self, _session: Session, ended: SessionTransaction) -> None:
        if ended.parent is None:
            self._jobs.clear()
        elif not ended.nested:
            return  # of a flush
        if ended is not self._committed:
            self._commits = 0  # it failed
        self._committed = None
        self._jobs = [job for job in self._jobs if job.owner is not ended]
        for job in self._jobs:
            if job.written is ended:
                job.written = None


def _innermost(session: Session) -> SessionTransaction:
    found = session.get_nested_transaction() or session.get_transaction()
    assert found is not None  # the caller has seen one
    return found


def _around(nested: SessionTransaction) -> SessionTransaction:
    """Return the savepoint or transaction in which a savepoint was set."""
    found = nested.parent
    while found is not None and not found.nested and found.parent is not None:
        found = found.parent
    assert found is not None  # a savepoint is never outermost
    return found
