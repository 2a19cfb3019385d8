"""Which Celery queue an application sends a task to, as the leader asks it."""

from typing import Any

import pytest
from celery import Celery

from pgreact.broker.task_routing import routed


def fails(*_: Any, **__: Any) -> None:
    """A router that needs what nobody has."""
    raise LookupError("no tenant")


@pytest.mark.parametrize(
    ("configuration", "queue"),
    [
        ({}, "celery"),
        ({"task_default_queue": "usual"}, "usual"),
        ({"task_routes": {"proj.*": "slow"}}, "slow"),
        ({"task_routes": {"proj.*": {"queue": "slow:one"}}}, "slow:one"),
        ({"task_routes": [lambda name, *_, **__: {"queue": name}]}, "proj.t"),
        ({"task_routes": [fails]}, "celery"),
    ],
)
def test_routing_of_the_application_decides(configuration: dict[str, Any], queue: str) -> None:
    app = Celery("proj", set_as_current=False)
    app.conf.update(configuration)
    assert routed(app, "proj.t") == {"name": "proj.t", "queue": queue, "expires": None, "alone": False}


@pytest.mark.filterwarnings("ignore::celery.exceptions.CDeprecationWarning")
def test_a_tasks_own_queue_and_expiry_come_first() -> None:
    app = Celery("proj", set_as_current=False)
    app.conf.task_routes = {"other.*": "slow"}

    @app.task(name="proj.own", queue="own", expires=1.5, shared=False)
    def own() -> None: ...

    assert routed(app, "proj.own") == {"name": "proj.own", "queue": "own", "expires": 1.5, "alone": False}


@pytest.mark.parametrize(
    "options",
    [
        {"time_limit": 5},
        {"soft_time_limit": 5},
        {"rate_limit": "1/s"},
        {"acks_late": True},
        {"Request": "proj.Request"},
        {"Strategy": "proj.strategy"},
        {"apply_async": lambda *_, **__: None},
    ],
)
def test_a_task_with_options_of_one_message_travels_alone(options: dict[str, Any]) -> None:
    app = Celery("proj", set_as_current=False)

    @app.task(name="proj.odd", shared=False, **options)
    def odd() -> None: ...

    assert routed(app, "proj.odd")["alone"]


@pytest.mark.parametrize("limit", ["task_time_limit", "task_soft_time_limit"])
def test_a_time_limit_for_all_tasks_keeps_jobs_apart(limit: str) -> None:
    app = Celery("proj", set_as_current=False)
    app.conf[limit] = 60

    @app.task(name="proj.t", shared=False)
    def t() -> None: ...

    assert routed(app, "proj.t")["alone"]
