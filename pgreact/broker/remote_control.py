"""Remote control: questions to the workers of an application, by way of its broker."""

from collections.abc import Callable
from typing import TypeVar

from celery import Celery
from kombu.exceptions import OperationalError

from pgreact.broker.connection import BrokerConnection, PublisherThread, PublishFailed, summary

T = TypeVar("T")


class CannotAsk(PublishFailed):
    """The broker is connected, and carries no questions to workers, or no replies."""


async def ask(app: Celery, deadline: float, function: Callable[[BrokerConnection], T]) -> T:
    """Run a function that asks the workers, with a thread and a connection of its own.

    Args:
        app: The application whose workers are asked.
        deadline: Seconds for connection and replies.
        function: Asks; gets an open connection.

    Returns:
        The function's result.

    Raises:
        CannotAsk: The connection works, and the question does not; or the application forbids it.
        PublishFailed: The broker cannot be reached, or did not answer in time.
    """
    thread = PublisherThread(app, deadline)
    try:
        return await thread.call(lambda connection: _asked(connection, function))
    finally:
        thread.close()


def _asked(connection: BrokerConnection, function: Callable[[BrokerConnection], T]) -> T:
    assert connection.producer  # connects
    assert connection.connection is not None
    if not connection.app.conf.worker_enable_remote_control:
        raise CannotAsk("the application switches remote control off (worker_enable_remote_control)")
    lost: tuple[type[BaseException], ...] = (
        OperationalError,
        OSError,
        *connection.connection.connection_errors,
    )
    try:
        return function(connection)
    except lost:
        raise
    except Exception as error:
        raise CannotAsk(f"this broker cannot carry questions to workers: {summary(error)}") from error
