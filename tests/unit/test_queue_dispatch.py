"""When the leader claims again without a signal, and in which order it publishes."""

import json
from typing import Any

import pytest

from pgreact.broker.job_publisher import JobMessage, PublishResult
from pgreact.clock import Clock
from pgreact.postgres.trouble import Troubles
from pgreact.queue.claim import QueueDispatch
from pgreact.queue.claim_delay import SOON
from pgreact.queue.measures import QueueMeasures

FULL = {"lane": "a", "in_progress": 4, "unstarted": 0}


class Manual(Clock):
    """A clock that tests set."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Session:
    """Answers claims as a test says, and all else with nothing."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {}

    async def value(self, sql: str, *_: object, **__: object) -> Any:
        if "unpublished(" in sql:
            return []
        return json.dumps(self.answer) if "claim(" in sql else "[]" if "jsonb_agg" in sql else None


class Post:
    """Takes all messages."""

    def __init__(self) -> None:
        self.sent: list[JobMessage] = []

    async def post(self, messages: list[JobMessage]) -> PublishResult:
        self.sent += messages
        return PublishResult(messages)

    async def routes(self, _tasks: list[str]) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("idle", "later", "again_in"),
    [(True, 0.0, SOON), (True, 0.021, None), (False, 0.0, None)],
    ids=["a place may be idle", "a poll would have found it", "messages wait for a worker"],
)
async def test_where_a_freed_place_is_idle_the_leader_claims_soon_for_a_while(
    idle: bool, later: float, again_in: float | None
) -> None:
    clock, session = Manual(), Session()
    dispatch = QueueDispatch(Post(), session, clock, Troubles(clock), QueueMeasures())  # type: ignore[arg-type]
    full = {
        "jobs": [],
        "more": False,
        "next_s": None,
        "unanswered": [],
        "full_lanes": [{**FULL, "idle": idle}],
    }
    session.answer = {**full, "claimed": 1}
    await dispatch.publish("a", "b")
    clock.now += later
    session.answer = {**full, "claimed": 0}
    assert (await dispatch.publish("b", "c")).again_in == again_in


async def test_a_bundle_is_published_where_its_first_job_would_be() -> None:
    clock, session, post = Manual(), Session(), Post()
    dispatch = QueueDispatch(post, session, clock, Troubles(clock), QueueMeasures())  # type: ignore[arg-type]
    job = {
        **dict.fromkeys(("task_id", "task", "args", "kwargs", "options", "lane"), "{}"),
        "attempt": 1,
        "retries": 0,
        "before": 0,
        "again": False,
    }
    session.answer = {
        "jobs": [
            {**job, "id": 1, "claim_id": "again", "place": None},
            {**job, "id": 9, "claim_id": "last", "place": 6},
        ],
        "bundles": [
            {
                "place": 2,
                "lane": "a",
                "task": "t",
                "options": "{}",
                "jobs": 4,
                "claim_ids": ["b"],
                "body": "[]",
            },
            {
                "place": 1,
                "lane": "a",
                "task": "t",
                "options": "{}",
                "jobs": 4,
                "claim_ids": ["a"],
                "body": "[]",
            },
        ],
        "claimed": 9,
        "more": False,
        "next_s": None,
        "unanswered": [],
        "full_lanes": [],
    }
    await dispatch.publish("a", "b")
    assert [message.claims[0] for message in post.sent] == ["again", "a", "b", "last"]
