"""The dispatcher: it publishes by the action of each route, and follows routes as they change."""

import asyncio
import dataclasses
from collections.abc import Sequence

from pgreact.clock import Clock
from pgreact.dispatch.action import Claimed
from pgreact.dispatch.dispatcher import Dispatcher
from pgreact.dispatch.route import Route

ROUTE = Route(
    id=1, name="dispatch", task="proj.old", window=0.0, countdown=0.0, expires=15.0, sweep=0.0,
    single_flight="publish", options={}, ready=None, gate="auto", gate_poll=0.04, gate_close_rate=100,
    gate_open_after=1.0, origin="sql",
)  # fmt: skip


class Certain:
    """Authority that is never in doubt."""

    async def confirm(self) -> None:
        """Return at once."""


class Recorded:
    """Actions that record the task and the ids of each publish, and return the given results in order."""

    def __init__(self, *claimed: Claimed | None) -> None:
        self.published: list[tuple[str, str, str]] = []
        self._claimed = list(claimed)
        self._news = asyncio.Event()

    def __call__(self, route: Route) -> "_Action":
        return _Action(self, route.task)

    def publish(self, task: str, task_id: str, next_task_id: str) -> Claimed | None:
        self.published.append((task, task_id, next_task_id))
        self._news.set()
        return self._claimed.pop(0) if self._claimed else None

    async def until(self, count: int) -> None:
        """Wait for that many publishes."""
        async with asyncio.timeout(10):
            while len(self.published) < count:
                self._news.clear()
                await self._news.wait()


class _Action:
    def __init__(self, recorded: Recorded, task: str) -> None:
        self._recorded = recorded
        self._task = task

    async def publish(self, task_id: str, next_task_id: str, _traces: Sequence[str] = ()) -> Claimed | None:
        return self._recorded.publish(self._task, task_id, next_task_id)


async def test_each_publish_has_the_id_that_the_one_before_announced() -> None:
    actions = Recorded()
    async with Dispatcher(actions, Certain(), Clock(), {1: ROUTE}) as dispatcher:
        for count in (1, 2, 3):
            dispatcher.signal(1)
            await actions.until(count)
            await asyncio.sleep(0)
    (_, _, second), (_, second_id, third), (_, third_id, _) = actions.published
    assert (second, third) == (second_id, third_id)
    assert dispatcher.runners[1].dispatches == 3


async def test_a_claim_that_asks_for_another_is_followed_by_one_at_once_or_later() -> None:
    actions = Recorded(Claimed(0.0), Claimed(0.01), Claimed(None))
    async with Dispatcher(actions, Certain(), Clock(), {1: ROUTE}) as dispatcher:
        dispatcher.signal(1)
        await actions.until(3)
    assert len(actions.published) == 3
    assert dispatcher.runners[1].dispatches == 0, "a claim is no call of a task"


async def test_a_claim_asks_for_nothing_once_its_route_is_removed() -> None:
    actions = Recorded(Claimed(0.0), Claimed(0.0))
    async with Dispatcher(actions, Certain(), Clock(), {1: ROUTE}) as dispatcher:
        dispatcher.signal(1)
        dispatcher.reroute({})
        await actions.until(1)
        assert not dispatcher.signal(1)
    assert len(actions.published) == 1


async def test_a_route_that_changes_its_task_publishes_by_a_new_action() -> None:
    actions = Recorded()
    async with Dispatcher(actions, Certain(), Clock(), {1: ROUTE}) as dispatcher:
        dispatcher.signal(1)
        await actions.until(1)
        dispatcher.reroute({1: dataclasses.replace(ROUTE, task="proj.new")})
        dispatcher.signal(1)
        await actions.until(2)
        added = dataclasses.replace(ROUTE, id=2, task="proj.added")
        dispatcher.reroute({1: dispatcher.routes[1], 2: added})
        dispatcher.signal(2)
        await actions.until(3)
    assert [task for task, _, _ in actions.published] == ["proj.old", "proj.new", "proj.added"]
