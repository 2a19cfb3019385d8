"""The attempts of jobs in a test: start and settle them as a worker does, on the test's connection."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from celery.exceptions import Ignore

from pgreact.errors import NotGuarded
from pgreact.testing.connection import TestConnection, run
from pgreact.worker.jobs import Jobs
from pgreact.worker.lease_renewer import LeaseRenewer, Sendable
from pgreact.worker.run import Run, Settlement
from pgreact.worker.session import Session, SessionPool


class Effects:
    """The writes of one task: undone if it fails, as under ``atomic()``, unless the test says otherwise.

    Attributes:
        error: The exception that left the task.
    """

    def __init__(self, connection: TestConnection, *, atomic: bool) -> None:
        """Begin nothing yet.

        Args:
            connection: The test's.
            atomic: Undo what a task wrote whenever it fails; else only if its SQL failed.
        """
        self.error: BaseException | None = None
        self._connection = connection
        self._atomic = atomic
        self._savepoint: ExitStack | None = None

    def begin(self) -> None:
        """Begin to collect what a task writes."""
        self.error = None
        self._savepoint = ExitStack()
        self._savepoint.enter_context(self._connection.savepoint())

    def end(self, error: BaseException | None) -> None:
        """Keep what it wrote, or undo it.

        Args:
            error: The exception that left the task.
        """
        self.error = error
        savepoint, self._savepoint = self._savepoint, None
        if savepoint is None:
            return  # the task did not start
        if error is None or isinstance(error, Ignore) or not (self._atomic or self._broken()):
            savepoint.close()
            return
        with contextlib.suppress(_Undo), savepoint:
            raise _Undo

    def _broken(self) -> bool:
        try:
            run(self._connection, "select 1")
        except Exception:  # noqa: BLE001 - the driver's
            return True
        return False

    @contextlib.contextmanager
    def of(self, task: Any) -> Iterator[None]:
        """Collect what one message that is not of a job writes."""
        inner: Callable[..., Any] = task.run

        def collected(*args: Any, **kwargs: Any) -> Any:
            self.begin()
            try:
                result = inner(*args, **kwargs)
            except BaseException as error:
                self.end(error)
                raise
            self.end(None)
            return result

        task.run = collected
        try:
            yield
        finally:
            task.run = inner


class _Undo(Exception):
    """Leaves the savepoint."""


class InlineJobs(Jobs):
    """The worker's own rules, on the test's connection and without a thread.

    Attributes:
        settlements: Of the run at hand.
        fault: Why its attempt could not be started or settled.
    """

    def __init__(self, connection: TestConnection, effects: Effects) -> None:
        """Prepare.

        Args:
            connection: The test's.
            effects: Collects what tasks write.
        """
        super().__init__("", timeout=0.0)
        self._pool = _InlinePool(connection)
        self._renewer = _NoRenewer(self._pool)
        self._effects = effects
        self.settlements: list[Settlement] = []
        self.fault: Exception | None = None
        self._handled: BaseException | None = None  # by the caller of the drain, if it is in an except block

    def begin(self) -> None:
        """Forget the run before."""
        self._handled = sys.exc_info()[1]
        self.settlements, self.fault, self._effects.error = [], None, None

    def start(self, run: Run) -> bool:
        """Take the attempt of a run; see :class:`pgreact.worker.jobs.Jobs`."""
        started = super().start(run)
        if started:
            self._effects.begin()
        return started

    def end(self, settlement: Settlement) -> None:
        """Settle the attempt of a run that has ended."""
        error = sys.exc_info()[1]
        self._effects.end(None if error is self._handled else error)
        self.settlements.append(settlement)
        super().end(settlement)

    def end_later(self, settlement: Settlement) -> None:
        """Settle the attempt of a message that does not run."""
        if not self.settlements:
            self.end(settlement)

    def _take(self, run: Run) -> float | None:
        try:
            return super()._take(run)
        except Exception as error:
            self.fault = error
            raise


class InlineCalls:
    """The test's connection for calls of tasks outside a transaction, which would be committed at once."""

    def __init__(self, connection: TestConnection) -> None:
        """Take the test's connection."""
        self._connection = connection

    def enqueue(self, payload: str) -> bool:
        """Enqueue a job; see :class:`pgreact.worker.transaction_source.Source`."""
        with self._connection.savepoint():
            run(self._connection, "enqueue", jobs=payload)
        return True


class _InlinePool(SessionPool):
    def __init__(self, connection: TestConnection) -> None:
        super().__init__("")
        self._session = _InlineSession(connection)

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        yield self._session


class _InlineSession(Session):
    """The test's connection in place of a session of its own."""

    def __init__(self, connection: TestConnection) -> None:
        super().__init__("")
        self._inner = connection

    def execute_pinned(self, name: str, **values: object) -> Any:
        try:
            with self._inner.savepoint():
                rows = run(self._inner, name, **values)
        except Exception as error:
            raise NotGuarded(f"{name}: {error}") from error
        return next(iter(rows[0].values())) if rows else None


class _NoRenewer(LeaseRenewer):
    """Renews nothing: the test's transaction holds the attempt."""

    def add(self, run: Run, lease: float) -> int:  # noqa: ARG002
        return 1

    def remove(self, run: Run) -> None:
        pass

    def send_later(
        self,
        settlement: Sendable,
        error: Exception | None = None,
        lease: float | None = None,  # noqa: ARG002
    ) -> None:
        raise NotGuarded(f"{settlement}: cannot be settled: {error}") from error
