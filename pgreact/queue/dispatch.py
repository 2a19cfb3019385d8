"""A dispatch of the queue: claim what may run, and hand it to Celery."""

import asyncio
import json
from typing import TYPE_CHECKING, Any, Protocol

import asyncpg

from pgreact import logs
from pgreact.clock import Clock
from pgreact.database.session import Session, refusal, said
from pgreact.dispatch.jobs import JobMessage, Posted
from pgreact.dispatch.publisher import Publisher, PublishFailed
from pgreact.dispatch.route import Route
from pgreact.queue.rest import rest
from pgreact.settings import BUILT_IN

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 100  # jobs a claim
CLAIM_TIMEOUT = 30.0  # seconds
TEND_PAUSE = 3600.0  # seconds between two looks at the partitions of the history
TEND_AGAIN = 60.0  # seconds after a look that could not do all


class Post(Protocol):
    """What a dispatch needs of Celery."""

    async def post(self, messages: list[JobMessage]) -> Posted:
        """Publish messages; see :class:`pgreact.dispatch.jobs.JobPublisher`."""
        ...


class QueueDispatch:
    """Publishes the calls of routes, and in place of the queue's own call claims jobs and publishes them.

    The leader does that itself: a Celery task that claimed would cost each job another way through the broker
    and a worker's place.
    """

    def __init__(
        self,
        publisher: Publisher,
        post: Post,
        session: Session,
        clock: Clock,
    ) -> None:
        """Nothing happens yet.

        Args:
            publisher: For all other routes.
            post: For the jobs.
            session: For the claims.
            clock: For the history's partitions.
        """
        self._publisher = publisher
        self._post = post
        self._session = session
        self._clock = clock
        self.signal: Callable[[], None] = lambda: None  # asks for another dispatch of the queue
        self._timer: asyncio.TimerHandle | None = None
        self._tended_at = -TEND_PAUSE
        self._full_at: float | None = None  # when the claim before this one took the last places

    async def publish(self, route: Route, task_id: str, following: str) -> bool:
        """Publish one call of a route's task; see :class:`pgreact.dispatch.publisher.Publisher`.

        Raises:
            PublishFailed: The broker did not confirm it.
            SessionLost: The session is gone.
        """
        if route.name != BUILT_IN:
            return await self._publisher.publish(route, task_id, following)
        await self._dispatch()
        return False

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _dispatch(self) -> None:
        self.close()
        began = self._clock.monotonic()
        try:
            if began - self._tended_at >= TEND_PAUSE:
                complete = await self._session.value("select pgreact.tend_history()", timeout=CLAIM_TIMEOUT)
                self._tended_at = began if complete else began - TEND_PAUSE + TEND_AGAIN
            answer = json.loads(
                await self._session.value("select pgreact.claim($1)", BATCH, timeout=CLAIM_TIMEOUT)
            )
        except asyncpg.InsufficientPrivilegeError as error:
            raise refusal(error, "cannot claim jobs") from None
        except asyncpg.PostgresError as error:
            raise PublishFailed(f"cannot claim jobs: {said(error)}") from None
        claimed = self._clock.monotonic()
        if answer["jobs"]:
            posted = await self._post.post([_message(job) for job in answer["jobs"]])
            await self._record(posted)
            logs.emit(
                logs.QueueDispatched(
                    claimed=answer["claimed"],
                    published=len(posted.sent),
                    claim_ms=round((claimed - began) * 1000, 3),
                    publish_ms=round((self._clock.monotonic() - claimed) * 1000, 3),
                )
            )
            if posted.failure:
                raise PublishFailed(posted.failure)
        if answer["more"]:
            self.signal()
        elif answer["next_s"] is not None:
            # a little late rather than early, when nothing would be due
            self._timer = asyncio.get_running_loop().call_later(
                max(0.0, answer["next_s"]) + 0.001, self.signal
            )
        # a daemon may be newer than the functions of its database
        waiting = answer.get("waiting", 0)
        full_at, self._full_at = self._full_at, began if waiting else None
        if waiting and full_at is not None:
            await asyncio.sleep(rest(waiting, answer["claimed"], began - full_at, answer["next_s"]))

    async def _record(self, posted: Posted) -> None:
        if posted.sent:
            await self._session.fetch(
                "select pgreact.published($1::text[]::uuid[])", [message.task_id for message in posted.sent]
            )
        for message, reason in posted.refused:
            assert message.job is not None
            logs.emit(logs.JobRefused(job=message.job, task=message.task, error=reason))
            await self._session.fetch(
                "select pgreact.settle($1, $2::text::uuid, 'invalid', $3)",
                message.job,
                message.task_id,
                reason,
            )


def _message(job: dict[str, Any]) -> JobMessage:
    return JobMessage(
        job=job["id"],
        attempt=job["attempt"],
        task_id=job["task_id"],
        task=job["task"],
        args=job["args"],
        kwargs=job["kwargs"],
        options=job["options"],
    )
