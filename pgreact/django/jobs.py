"""Enqueue jobs in the transaction of Django, without naming the connection."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack

from asgiref.sync import sync_to_async
from django.db import connections

from pgreact.django import conf
from pgreact.queue import enqueue as queue
from pgreact.queue.job import Enqueued, Job, JobParameters, TaskLike


def enqueue(
    task: str | TaskLike | Mapping[str, Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    using: str | None = None,
    **parameters: Unpack[JobParameters],
) -> Enqueued:
    """Enqueue a job in the current transaction; outside one it exists at once::

        with transaction.atomic():
            order.save()
            pgreact.django.enqueue(send_receipt, [order.pk])

    Args:
        task: As in :func:`pgreact.enqueue`, with the other arguments.
        args: Likewise.
        kwargs: Likewise.
        using: The alias of the database; by default that of ``PGREACT["DATABASE"]``.
        **parameters: See :class:`pgreact.JobParameters`.

    Returns:
        The job's id; its attribute ``task_id`` is Celery's.

    Raises:
        Exception: As :func:`pgreact.enqueue`.
    """
    return queue.enqueue(connections[using or conf.alias()], task, args, kwargs, **parameters)


def enqueue_many(
    jobs: Iterable[Job | Mapping[str, Any] | TaskLike | str], *, using: str | None = None
) -> list[Enqueued]:
    """Enqueue many jobs by one statement, in the current transaction.

    Args:
        jobs: As in :func:`pgreact.enqueue_many`.
        using: The alias of the database; by default that of ``PGREACT["DATABASE"]``.

    Returns:
        Their ids, in the same order.

    Raises:
        Exception: As :func:`pgreact.enqueue_many`.
    """
    return queue.enqueue_many(connections[using or conf.alias()], jobs)


async def aenqueue(
    task: str | TaskLike | Mapping[str, Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    using: str | None = None,
    **parameters: Unpack[JobParameters],
) -> Enqueued:
    """Enqueue a job from async code, where Django has no transactions: the job exists at once.

    To save rows and enqueue in one transaction, put both into one synchronous function, and call that by
    ``await sync_to_async(function)()``.

    Args:
        task: As in :func:`enqueue`, with the other arguments, returns and errors.
        args: Likewise.
        kwargs: Likewise.
        using: Likewise.
        **parameters: Likewise.
    """
    return await sync_to_async(enqueue)(task, args, kwargs, using=using, **parameters)


async def aenqueue_many(
    jobs: Iterable[Job | Mapping[str, Any] | TaskLike | str], *, using: str | None = None
) -> list[Enqueued]:
    """Enqueue many jobs from async code, by one statement: they exist at once.

    Args:
        jobs: As in :func:`enqueue_many`, with the other argument, returns and errors.
        using: Likewise.
    """
    return await sync_to_async(enqueue_many)(jobs, using=using)
