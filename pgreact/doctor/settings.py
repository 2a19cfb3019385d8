"""Settings, which need no server: packages, configuration, Celery application, kind of the broker."""

import importlib.metadata
import re
from collections.abc import Iterator

from pgreact.broker.connection import broker_url
from pgreact.broker.unknown_tasks import unknown_tasks
from pgreact.doctor.checks import CannotSee, Finding, check, fail, warn
from pgreact.doctor.facts import Facts
from pgreact.errors import ConfigError, PgreactError
from pgreact.postgres import conninfo
from pgreact.quantities import format_duration

VISIBILITY = 3600.0  # seconds: the default visibility_timeout of Redis and SQS in kombu
_OWN_PROCESS = ("memory", "filesystem", "in-memory")  # transports that reach no other machine


@check("settings.packages", "the versions of the packages that pgreact needs", offline=True)
def packages(_facts: Facts) -> Iterator[Finding]:
    for needed in importlib.metadata.requires("pgreact") or ():
        if ";" in needed:
            continue  # of an extra
        name = re.split(r"[^\w.-]", needed, maxsplit=1)[0]
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield fail(f"{name} is not installed", f"pip install '{needed}'")
            continue
        bounds = re.findall(r"(>=|<)([\d.]+)", needed)
        if any((_release(version) < _release(bound)) is (sign == ">=") for sign, bound in bounds):
            yield fail(
                f"{name} {version} is installed, and pgreact needs {needed}", f"pip install '{needed}'"
            )


def _release(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, without what follows them."""
    return tuple(int(number) for number in re.match(r"[\d.]*", version)[0].split(".") if number)  # type: ignore[index]


@check("settings.application", "the Celery application, or the broker's URL instead", offline=True)
def application(facts: Facts) -> Iterator[Finding]:
    try:
        assert facts.app
    except ConfigError as error:
        yield fail(str(error), 'app = "proj"   # in pgreact.toml; or: pgreact -A proj doctor')


@check("settings.tasks", "the tasks that the configuration names, in the Celery application", offline=True)
def tasks(facts: Facts) -> Iterator[Finding]:
    settings = facts.settings
    if settings.app is None or not settings.tasks:
        return
    try:
        unknown = unknown_tasks(settings.app, settings.tasks)
    except PgreactError as error:
        raise CannotSee(str(error)) from error
    for line in unknown:
        yield fail(
            line, f"correct the name in {settings.label}, or import the task's module in {settings.app}"
        )


@check("settings.broker", "the kind of the broker", offline=True)
def broker(facts: Facts) -> Iterator[Finding]:
    try:
        kind = broker_url(facts.app).partition("://")[0]
    except ConfigError as error:
        raise CannotSee("no Celery application: see settings.application") from error
    if kind in _OWN_PROCESS:
        yield fail(
            f"a broker {kind}:// reaches no worker of another process or machine",
            'broker = "redis://HOST/0"   # in pgreact.toml, or broker_url of the Celery application',
        )


@check("settings.contradictions", "settings of the file that contradict each other", offline=True)
def contradictions(facts: Facts) -> Iterator[Finding]:
    settings = facts.settings
    for name, route in settings.routes.items():
        if 0 < route.expires <= route.countdown:
            expires, countdown = format_duration(route.expires), format_duration(route.countdown)
            yield fail(
                f"route {name}: each call expires ({expires}) before it may start (countdown {countdown})",
                f'[routes.{name}]\nexpires = "{format_duration(route.countdown + 15)}"',
            )
        if route.sweep == 0 and not route.tables:
            yield warn(
                f"route {name}: it watches no table and never sweeps; only pgreact.signal() wakes it",
                f'[routes.{name}]\nsweep = "60s"',
            )
    most = settings.queue.max_in_progress
    for name, lane in settings.lanes.items():
        if most is not None and lane.max_in_progress is not None and lane.max_in_progress > most:
            yield warn(
                f"lane {name}: its max_in_progress {lane.max_in_progress} exceeds that of all lanes, {most}",
                f"[queue]\nmax_in_progress = {lane.max_in_progress}",
            )
    if settings.listen_dsn is not None:
        ours, theirs = conninfo.resolve(settings.dsn), conninfo.resolve(settings.listen_dsn)
        if ours.get("dbname") != theirs.get("dbname"):
            yield warn(
                f'dsn leads to database "{ours.get("dbname")}", and listen_dsn to "{theirs.get("dbname")}"',
                f"let both of them name one database in {settings.label}",
            )
