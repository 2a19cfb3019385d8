"""A dispatch of the queue: claim jobs that may run, and publish them."""

import asyncio
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pgreact import logs, tracing
from pgreact.broker.job_publisher import JobMessage, PublishResult
from pgreact.broker.publisher import PublishFailed
from pgreact.clock import Clock
from pgreact.dispatch.action import Claimed, Published
from pgreact.errors import SessionLost
from pgreact.postgres.errors import ascii_escaped, describe, remedy
from pgreact.postgres.session import Session
from pgreact.postgres.trouble import Troubles
from pgreact.queue.claim_delay import claim_delay, until_place
from pgreact.queue.lane_monitor import LaneMonitor
from pgreact.queue.measures import QueueMeasures

BATCH = 100  # jobs per claim
LARGE_BATCH = 500  # likewise, while jobs share messages
CLAIM_TIMEOUT = 30.0  # seconds
LONGEST = 3600.0  # seconds until the next claim, at most: a row's time may be infinite
_KNOWN_TASKS = "select coalesce(jsonb_agg(t.name), '[]') from pgreact.task t"
RETRY = 1.0  # seconds until the next try to revert or settle an attempt whose row is locked


class Post(Protocol):
    """The part of Celery that a dispatch of the queue uses."""

    async def post(self, messages: list[JobMessage]) -> PublishResult:
        """Publish messages; see :class:`pgreact.broker.job_publisher.JobPublisher`."""
        ...

    async def routes(self, tasks: list[str]) -> list[dict[str, Any]]:
        """Return the Celery queues that tasks are routed to."""
        ...


class QueueDispatch:
    """The action of the queue's route: claims jobs and publishes them.

    The leader does that itself: a Celery task that claimed would cost each job another way through the broker
    and a worker's place.
    """

    def __init__(
        self, post: Post, session: Session, clock: Clock, troubles: Troubles, measures: QueueMeasures
    ) -> None:
        """Prepare a claim.

        Args:
            post: For the jobs.
            session: For the claims.
            clock: Measures durations.
            troubles: Reports failures that do not end a dispatch.
            measures: Counts messages.
        """
        self._troubles = troubles
        self._post = post
        self._session = session
        self._clock = clock
        self._in_doubt = True  # what the last claim returned, and marked as published, is not known
        self._unsent: set[str] = set()  # attempts that are marked as published and may not be sent
        self._refused_bundles: set[str] = set()  # likewise, of bundles that the broker refused
        self._refused: dict[str, tuple[JobMessage, str]] = {}  # attempts that cannot be published, and why
        self._claimed = 0  # jobs claimed since the last log event: none of their messages was published
        self._full_at: float | None = None  # when the claim before this one left no place free
        self._took_at = 0.0  # when the last claim that took jobs began
        self._lanes = LaneMonitor()
        self._database = ""  # its id, which messages carry
        self._at_once = False  # claim again at once
        self._unrouted = False  # the last claim returned tasks without a route
        self._routed = False  # the routing of all known tasks was looked up in this term
        self._batch = BATCH
        self._measures = measures

    async def publish(self, _task_id: str, _next_task_id: str, _traces: Sequence[str] = ()) -> Claimed:
        """Claim jobs and publish their messages; see :class:`pgreact.dispatch.action.Action`.

        Raises:
            PublishFailed: The broker did not take them all, or the server refused a statement.
            SessionLost: The session is gone.
        """
        began = self._clock.monotonic()
        self._at_once = False
        await self._revert_unsent()
        await self._settle_refused()
        if not self._database:
            self._database = await self._ask("database id", "select pgreact.database_id()")
        asked = self._clock.monotonic()
        self._in_doubt = True
        answer = json.loads(await self._ask("claim", "select pgreact.claim($1)", self._batch))
        claimed = self._clock.monotonic()
        jobs = answer["jobs"]
        bundles = answer.get("bundles") or []  # a daemon may be newer than the functions of its database
        self._unsent.update(job["claim_id"] for job in jobs)
        self._unsent.update(claim for bundle in bundles for claim in bundle["claim_ids"])
        self._in_doubt = False
        self._batch = LARGE_BATCH if bundles else BATCH
        bundled = sum(bundle["jobs"] for bundle in bundles)
        self._measures.republished += max(0, len(jobs) + bundled - answer["claimed"])
        if jobs or bundles:
            traces = [job["trace"] for job in jobs if job.get("trace")]
            tracing.record("pgreact.claim", claimed - asked, {"pgreact.jobs": len(jobs) + bundled}, traces)
        failure = await self._publish(jobs, bundles, answer["claimed"], began, asked, claimed)
        published = Published(claimed, self._clock.monotonic()) if jobs or bundles else None
        self._watch_lanes(answer, claimed)
        if failure:
            raise PublishFailed(failure)
        await self._route(answer.get("unrouted") or [])
        # locked rows alone are no reason to claim again at once
        if answer["more"] and (jobs or answer["claimed"]):
            self._at_once = True
        if answer["claimed"]:
            self._took_at = began
        again_in = self._until_next(answer["next_s"])
        if any(lane.get("idle") for lane in answer.get("full_lanes", ())):
            soon = until_place(claimed - self._took_at)
            again_in = min((wait for wait in (again_in, soon) if wait is not None), default=None)
        # a daemon may be newer than the functions of its database
        waiting = answer.get("waiting", 0)
        full_at, self._full_at = self._full_at, began if waiting else None
        if waiting and full_at is not None:
            pause = claim_delay(waiting, answer["claimed"], began - full_at, answer["next_s"])
            await asyncio.sleep(pause)
            again_in = None if again_in is None else max(0.0, again_in - pause)
        return Claimed(0.0 if self._at_once else again_in, published)

    async def _publish(
        self,
        jobs: list[dict[str, Any]],
        bundles: list[dict[str, Any]],
        taken: int,
        began: float,
        asked: float,
        claimed: float,
    ) -> str | None:
        """Publish jobs and bundles; return why some were not published, if the broker is away."""
        messages = [message_of(job, self._database, asked) for job in jobs]
        if bundles:
            messages += [bundle_of(bundle, self._database, asked) for bundle in bundles]
            # a bundle goes where its first job would; what is published again goes first
            places = [found.get("place") or 0 for found in (*jobs, *bundles)]
            messages = [messages[at] for at in sorted(range(len(places)), key=places.__getitem__)]
        if not messages:
            return None
        self._claimed += taken
        posted = await self._post.post(messages)
        self._unsent -= {claim for message in posted.sent for claim in message.claims}
        for message, reason in posted.refused:
            if message.jobs:
                self._at_once = True  # the next claim returns its jobs one by one: only some may be at fault
                self._refused_bundles.update(message.claims)
                self._unsent.difference_update(message.claims)
                continue
            logs.emit(logs.JobRefused(job=message.job or 0, task=message.task, error=reason))
            self._refused[message.claims[0]] = message, reason
            self._unsent.discard(message.claims[0])
        await self._settle_refused()
        if posted.sent:
            logs.emit(
                logs.QueueDispatched(
                    claimed=self._claimed,
                    published=sum(message.jobs or 1 for message in posted.sent),
                    claim_ms=round((claimed - began) * 1000, 3),
                    publish_ms=round((self._clock.monotonic() - claimed) * 1000, 3),
                )
            )
            self._claimed = 0
        if posted.late:
            self._at_once = True
            return None
        return posted.failure

    def _watch_lanes(self, answer: dict[str, Any], now: float) -> None:
        """Log which lanes are stalled, and which messages no worker starts."""
        if "full_lanes" in answer:  # otherwise another claim held the lock
            taken = [*answer["jobs"], *(answer.get("bundles") or [])] if answer["claimed"] else []
            served = {job["lane"] for job in taken}
            for event in self._lanes.observe(now, answer["full_lanes"], served, answer["unanswered"]):
                logs.emit(event)

    async def _route(self, tasks: list[str]) -> None:
        """Store which Celery queues tasks are routed to; once a term for all known tasks."""
        names = set(tasks)
        if not self._routed:
            names |= set(json.loads(await self._ask("tasks", _KNOWN_TASKS)))
        if names:
            routes = await self._post.routes(sorted(names))
            moved = await self._ask("routing of tasks", "select pgreact.route_tasks($1)", json.dumps(routes))
            if moved:
                self._at_once = True
        self._routed = True
        self._unrouted = bool(tasks)

    def _until_next(self, due: float | None) -> float | None:
        """Return the seconds until the next claim, or ``None`` if none is due."""
        waits = [] if due is None else [min(max(0.0, float(due)), LONGEST)]
        if self._unsent or self._refused_bundles or self._refused or self._unrouted:
            waits.append(RETRY)
        # slightly late, since an early claim would find nothing due
        return min(waits) + 0.001 if waits else None

    async def _revert_unsent(self) -> None:
        """Let the next claim return what was not published; leave locked rows for the next dispatch."""
        if self._unsent:
            self._unsent = await self._unpublished(self._unsent, alone=False)
        if self._in_doubt:
            self._unsent |= await self._unpublished(None, alone=False)
            self._in_doubt = False
        if self._refused_bundles:
            self._refused_bundles = await self._unpublished(self._refused_bundles, alone=True)

    async def _unpublished(self, claims: set[str] | None, *, alone: bool) -> set[str]:
        """Revert marks; return the attempts whose rows are locked."""
        sql = "select pgreact.unpublished($1::text[]::uuid[], $2)::text[]"
        return set(await self._ask("unpublished", sql, None if claims is None else list(claims), alone))

    async def _settle_refused(self) -> None:
        """Settle what cannot be published; leave locked rows for the next dispatch."""
        for claim, (message, reason) in list(self._refused.items()):
            trouble = self._troubles[f"job {message.job}"]
            try:
                await self._session.fetch(
                    "select pgreact.settle($1, $2::text::uuid, 'invalid', $3)",
                    message.job,
                    claim,
                    ascii_escaped(reason),
                )
            except SessionLost:
                raise
            except Exception as error:  # noqa: BLE001 - one job's failure does not affect the others
                trouble.failed(error)
            else:
                self._troubles.forget(trouble.subject)
                del self._refused[claim]

    async def _ask(self, statement: str, sql: str, *args: object) -> Any:
        """Run one statement of a dispatch.

        Raises:
            SessionLost: The session is gone.
            PublishFailed: The server refused; the dispatch is repeated, with growing pauses.
        """
        try:
            return await self._session.value(sql, *args, timeout=CLAIM_TIMEOUT)
        except SessionLost:
            raise
        except Exception as error:
            raise PublishFailed(f"{statement}: {describe(error)}{remedy(error)}") from error


def message_of(job: Mapping[str, Any], database: str, asked: float | None = None) -> JobMessage:
    """Return the message of a claimed job.

    Args:
        job: As ``pgreact.claim`` returns it.
        database: The database's id.
        asked: When the claim began, by the monotonic clock.
    """
    return JobMessage(
        job=job["id"],
        attempt=job["attempt"],
        claims=(job["claim_id"],),
        database=database,
        task_id=job["task_id"],
        task=job["task"],
        args=job["args"],
        kwargs=job["kwargs"],
        options=job["options"],
        retries=job["retries"],
        before=job["before"],
        again=job["again"],
        lane=job["lane"],
        # a daemon may be newer than the functions of its database
        trace=job.get("trace") or {},
        asked=asked,
    )


def bundle_of(bundle: Mapping[str, Any], database: str, asked: float | None = None) -> JobMessage:
    """Return the message of a bundle.

    Args:
        bundle: As ``pgreact.claim`` returns it. Its body goes to the worker as PostgreSQL wrote it.
        database: The database's id.
        asked: When the claim began, by the monotonic clock.
    """
    return JobMessage(
        job=None,
        attempt=0,
        task_id=str(uuid.uuid4()),
        task=bundle["task"],
        args=bundle["body"],
        kwargs="{}",
        options=bundle["options"],
        claims=tuple(bundle["claim_ids"]),
        jobs=bundle["jobs"],
        database=database,
        lane=bundle["lane"],
        asked=asked,
    )
