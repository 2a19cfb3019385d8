"""Django's system checks of an entry of ``TASKS``."""

from collections.abc import Iterable, Iterator

from django.apps import apps
from django.core import checks

from pgreact.django import conf
from pgreact.errors import ConfigError


def check(alias: str, queues: Iterable[str]) -> Iterator[checks.CheckMessage]:
    """Yield what is wrong with a backend.

    Args:
        alias: Its key in ``TASKS``.
        queues: The names of its queues.
    """
    if not apps.is_installed("pgreact.django"):
        yield checks.Error(
            f'TASKS["{alias}"]: "pgreact.django" is not in INSTALLED_APPS.',
            hint="Add it: workers then know the task that runs the tasks of django.tasks.",
            id="pgreact.E101",
        )
        return
    try:
        lanes = {"default", *conf.given().data.get("lanes", {})}
    except ConfigError:  # the checks of PGREACT tell
        return
    if unknown := sorted(set(queues) - lanes):
        names = ", ".join(f'"{name}"' for name in unknown)
        yield checks.Warning(
            f'TASKS["{alias}"]: QUEUES has {names}, which PGREACT["LANES"] does not name.',
            hint="A queue is a lane of pgreact, and its tasks are refused without one: name it in "
            'PGREACT["LANES"] and migrate, or silence this check if you inserted the lane in SQL.',
            id="pgreact.W102",
        )
