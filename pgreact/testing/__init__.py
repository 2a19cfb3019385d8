"""Helpers for tests of code that enqueues jobs: without daemon and broker, in the transaction of the test.

::

    def test_an_order_sends_its_mail(db):
        order = place_order()
        assert_enqueued(send_mail, kwargs={"order": order.pk}, lane="mail")
        drain()
        assert mail.outbox

- :func:`enqueued` lists jobs; :func:`assert_enqueued` and :func:`assert_not_enqueued` say what there was;
- :func:`drain` fires what is due of the timetable and runs what is due of the queue, in this process;
- :func:`freeze` stops and moves the database's clock;
- :func:`use` names the connection of a test once, for all of these.

The pytest plugin brings the fixtures ``pgreact_dsn``, ``pgreact_db`` and ``pgreact_worker``.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgreact.testing.assertions import assert_enqueued, assert_not_enqueued
    from pgreact.testing.clock import FrozenClock, freeze
    from pgreact.testing.draining import DrainedTask, JobDied, drain
    from pgreact.testing.queue import EnqueuedJob, enqueued
    from pgreact.testing.settings import use

# Imported when first used: pytest imports this package for its plugin, in any project.
_MODULES = {
    "assert_enqueued": "assertions",
    "assert_not_enqueued": "assertions",
    "freeze": "clock",
    "FrozenClock": "clock",
    "drain": "draining",
    "DrainedTask": "draining",
    "JobDied": "draining",
    "enqueued": "queue",
    "EnqueuedJob": "queue",
    "use": "settings",
}

__all__ = [
    "DrainedTask",
    "EnqueuedJob",
    "FrozenClock",
    "JobDied",
    "assert_enqueued",
    "assert_not_enqueued",
    "drain",
    "enqueued",
    "freeze",
    "use",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f'pgreact.testing has no "{name}"')
    return getattr(importlib.import_module(f"pgreact.testing.{_MODULES[name]}"), name)
