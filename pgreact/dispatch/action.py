"""The action of a route: call the route's task, or claim jobs (``pgreact.queue.claim``)."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pgreact.broker.message_headers import ROUTE
from pgreact.broker.publisher import CeleryPublisher, TaskCall
from pgreact.dispatch.route import Route


class Published(NamedTuple):
    """When messages were published, by the monotonic clock."""

    began: float
    confirmed: float


class Claimed(NamedTuple):
    """The jobs that could be claimed were claimed and published."""

    again_in: float | None  # seconds until the next claim is needed; None: at the next signal
    published: Published | None = None  # None: no job could be claimed


class Action(Protocol):
    """The action of a route: call its task, or claim jobs."""

    async def publish(self, task_id: str, next_task_id: str, traces: Sequence[str] = ()) -> Claimed | None:
        """Publish one call of the route's task, or the messages of claimed jobs.

        Args:
            task_id: Celery's id of the call.
            next_task_id: The id of the following call, whose message can be prepared meanwhile.
            traces: Trace contexts of the signals that the call answers, as far as they are known.

        Returns:
            ``None``: the broker has the call of this id.

        Raises:
            PublishFailed: The broker did not confirm before the deadline, or the claim failed.
            SessionLost: The session of the claims is gone.
        """
        ...


def task_call(route: Route, publisher: CeleryPublisher) -> TaskCall:
    """Return the action that calls a route's task.

    Args:
        route: Its task and the options of the calls.
        publisher: Publishes them.
    """
    options = {"ignore_result": True, **route.options, "expires": route.expires}
    if route.countdown:
        options["countdown"] = route.countdown
    if route.single_flight == "run":
        # the worker takes the locks of this route
        options["headers"] = {**(options.get("headers") or {}), ROUTE: route.id}
    return publisher.call(route.task, options, route.name)
