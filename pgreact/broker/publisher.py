"""The door to Celery for the calls of routes: one message at a time."""

import contextlib
import sys
import time
from pathlib import Path
from typing import Literal, Protocol

from celery import Celery
from celery.app.utils import find_app
from kombu.utils.url import maybe_sanitize_url

from pgreact.broker.connection import NO_CLIENT, Line, PublishFailed, Wire, broker_url, what_is_missing
from pgreact.broker.prepared_message import Draft
from pgreact.dispatch.route import Route
from pgreact.errors import ConfigError, nearest

__all__ = ["DEADLINE", "CeleryPublisher", "PublishFailed", "Publisher", "open_app", "shown"]

# With the leader's last sign of life at most 5 s old when a publish begins, both end before PostgreSQL can
# give the lock of a vanished leader to another: 5 + 4 < 10. See "Leadership" in docs/protocols.md.
DEADLINE = 4.0


class Publisher(Protocol):
    """What the dispatcher needs; the tests have one that fails on demand."""

    async def publish(self, route: Route, task_id: str, following: str) -> bool:
        """Publish one call of the route's task.

        Args:
            route: Whose task it is.
            task_id: The call's id.
            following: The id of the call after that, which can be made meanwhile.

        Returns:
            Whether there was a message; false: what had to be done was done here.

        Raises:
            PublishFailed: The broker did not confirm it before the deadline.
        """
        ...


def open_app(app: str | None, broker: str | None) -> Celery:
    """Return the Celery application to publish through.

    Args:
        app: As ``celery -A`` takes it; its settings decide queues, routing and serializer.
        broker: A broker URL, when no application need be imported; with both, it overrides the app's.

    Raises:
        ConfigError: Neither is given, or the application cannot be imported.
    """
    if app is None and broker is None:
        raise ConfigError('no Celery application: set "app" or "broker" in pgreact.toml, or give -A proj')
    if app is None:
        return _checked(Celery("pgreact", broker=broker, set_as_current=False))
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = find_app(app)
    except Exception as error:
        reason = _missing(app) or f"{type(error).__name__}: {error}"
        raise ConfigError(f'Celery application "{app}" cannot be imported: {reason}') from error
    if not isinstance(found, Celery):
        raise ConfigError(
            f'"{app}" is a {type(found).__name__}, not a Celery application: name it like proj.celery:app'
        )
    if broker is not None:
        found.conf["broker_url"] = broker
    return _checked(found)


def _missing(app: str) -> str | None:
    """Return which attribute an importable module lacks: Celery then takes the whole name for a module's."""
    name, _, attribute = app.rpartition(":") if ":" in app else app.rpartition(".")
    module = sys.modules.get(name)  # finding the application has imported it, if that can be done
    if module is None or not attribute or hasattr(module, attribute):
        return None
    known = [found for found, value in vars(module).items() if isinstance(value, Celery)]
    return f'module "{name}" has no attribute "{attribute}"{nearest(attribute, known)}'


def _checked(app: Celery) -> Celery:
    """Make sure that there is code for the broker's kind, before anything waits for it."""
    try:
        assert app.connection_for_write().transport is not None
    except NO_CLIENT as error:
        raise ConfigError(f"broker {shown(app)}: {what_is_missing(app, error)}") from error
    except Exception as error:
        raise ConfigError(f"broker {shown(app)}: {type(error).__name__}: {error}") from error
    return app


def shown(app: Celery) -> str:
    """Return application and broker for a log, without password."""
    return f"{app.main or 'app'} via {maybe_sanitize_url(broker_url(app))}"


class CeleryPublisher:
    """Publishes the calls of routes through a Celery application."""

    def __init__(self, app: Celery, deadline: float = DEADLINE) -> None:
        self._line = Line(app, deadline)
        self._drafts: dict[int, tuple[Route, Draft]] = {}

    async def publish(self, route: Route, task_id: str, following: str) -> Literal[True]:
        """Publish one call of the route's task; see :class:`Publisher`.

        Raises:
            PublishFailed: The broker did not confirm it before the deadline.
        """

        def work(wire: Wire) -> None:
            began = time.monotonic()
            try:
                self._send(wire, route, task_id)
            except Exception:
                # A connection that was fine an hour ago may be dead by now, and says so only when it is used.
                if not wire.used or wire.severed or time.monotonic() - began > wire.deadline / 2:
                    raise
                wire.hang_up()
                self._send(wire, route, task_id)

        def draft_next(wire: Wire) -> None:
            if not wire.connected or route.countdown:  # an eta must not grow old
                return
            with contextlib.suppress(Exception):  # the dispatch itself will tell
                self._drafts[route.id] = route, _draft(wire, route, following)

        await self._line.call(work, draft_next)
        return True

    def warm_up(self) -> None:
        """Connect beforehand."""
        self._line.warm_up()

    async def close(self) -> None:
        """Hang up."""
        self._line.close()

    def _send(self, wire: Wire, route: Route, task_id: str) -> None:
        producer = wire.producer
        known, draft = self._drafts.pop(route.id, (None, None))
        if draft is None or known is not route or draft.task_id != task_id:
            draft = _draft(wire, route, task_id)
        draft.send(producer)
        wire.used = True


def _draft(wire: Wire, route: Route, task_id: str) -> Draft:
    options = {"ignore_result": True, **route.options, "expires": route.expires}
    if route.countdown:
        options["countdown"] = route.countdown
    if route.single_flight == "run":
        # the worker's hook takes the locks of this route
        options["headers"] = {**(options.get("headers") or {}), "pgreact_route": route.id}
    return Draft(wire, route.task, task_id, options)
