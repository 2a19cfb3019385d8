"""Django's transaction as that of ``delay()``: ``pgreact.setup(app, transactional=True)``."""

from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections

from pgreact.django import conf
from pgreact.queue.connections import Call, run
from pgreact.worker.transaction_source import register_django


class DjangoTransaction:
    """The connection of this thread to the database that has pgreact's schema.

    Inside ``atomic()`` a job belongs to that block, its savepoint included; else the connection is in
    autocommit mode, and the job exists at once. Transactions of other databases do not count.
    """

    def enqueue(self, payload: str) -> bool:
        """Enqueue a job on the connection; see :class:`pgreact.worker.transaction_source.Source`.

        Raises:
            SynchronousOnlyOperation: The caller is asynchronous code, which has no transaction of Django's.
        """
        try:
            run(connections[conf.alias()], Call("enqueue", {"jobs": payload}, lambda _rows: None))
        except SynchronousOnlyOperation as error:
            raise SynchronousOnlyOperation(
                "delay() was called in async code, where Django's connection cannot be used: write await "
                "sync_to_async(task.delay)(…), or put the whole transaction into one synchronous function"
            ) from error
        return True


def register() -> None:
    """Let ``transactional=True`` find it."""
    register_django(DjangoTransaction())
