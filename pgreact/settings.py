"""The configuration, checked once, then frozen: a file or a program's own settings, and the environment.

The parts define their sections (``wakeup.settings``, ``queue.settings``, ``timetable.settings``). This module
composes them, and explains mistakes in the file and in variables.
"""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from pgreact.dispatch.route import QUEUE_ROUTE
from pgreact.errors import ConfigError, nearest, quoted
from pgreact.logs import Format, Level
from pgreact.queue.settings import (
    LANE_NAME_RULE,
    LaneName,
    LaneSettings,
    Outbox,
    QueueSections,
    QueueSettings,
)
from pgreact.section import HttpAddress, Section, explain
from pgreact.timetable.settings import SCHEDULE_NAME_RULE, ScheduleName, ScheduleSettings
from pgreact.wakeup.settings import ROUTE_NAME_RULE, RouteName, RouteSettings, Watch
from pgreact.web.settings import PREFIX_RULE, WebSettings


class Settings(Section):
    """The whole configuration."""

    dsn: str = Field(
        default="",
        description="the database, as libpq reads it; by default the PG* variables and service files",
    )
    listen_dsn: str | None = Field(
        default=None,
        description="a direct connection to the primary, when dsn leads to a pooler; by default dsn",
    )
    app: str | None = Field(default=None, description="the Celery application, as celery -A takes it")
    application: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="the owner of the database, where others are refused; by default the package of app",
    )
    broker: str | None = Field(
        default=None, description="a broker URL, instead of app, when the application need not be imported"
    )
    http: HttpAddress | None = Field(default=None, description="where the daemon serves metrics and probes")
    log_format: Format = Field(default="auto", description="auto: console on a terminal, else json")
    log_level: Level = Field(
        default="info", description="the lowest level that is logged; debug shows each signal"
    )
    routes: dict[RouteName, RouteSettings] = {}
    queue: QueueSettings = QueueSettings()
    lanes: dict[LaneName, LaneSettings] = {}
    outbox: tuple[Outbox, ...] = ()
    schedules: dict[ScheduleName, ScheduleSettings] = {}
    web: WebSettings = WebSettings()

    _source: str | None = None

    @property
    def source(self) -> str | None:
        """Where it was read from: a file, or a program's own settings; ``None``: the environment alone."""
        return self._source

    @property
    def label(self) -> str:
        """The name in messages: its source, if any."""
        return self._source or "configuration"

    @property
    def queue_sections(self) -> QueueSections:
        """The sections of the queue."""
        return QueueSections(self.queue, self.lanes, self.outbox)

    @property
    def owner(self) -> str | None:
        """The application that owns the database: ``application``, else the package of ``app``."""
        if self.application is not None or self.app is None:
            return self.application
        return re.split(r"[.:]", self.app)[0] or None

    @property
    def tasks(self) -> dict[str, str]:
        """The names of tasks, by the key that has them."""
        found = {f"routes.{name}.task": route.task for name, route in self.routes.items()}
        found |= {f"outbox[{index}].enqueue": entry.enqueue for index, entry in enumerate(self.outbox)}
        found |= {f"schedules.{quoted(name)}.task": entry.task for name, entry in self.schedules.items()}
        for name, lane in self.lanes.items():
            found |= {f"lanes.{name}.tasks[{index}]": task for index, task in enumerate(lane.tasks or ())}
        return found

    @property
    def describes_objects(self) -> bool:
        """Whether it describes objects of the database, beyond connections and logs."""
        return bool(self.routes or self.lanes or self.outbox or self.schedules or self.queue.model_fields_set)

    @property
    def daemon_dsn(self) -> str:
        """The DSN of the daemon, which needs sessions of its own: no pooler in transaction mode."""
        return self.dsn if self.listen_dsn is None else self.listen_dsn


# the keys that the environment may set, by section
_SCALARS = {
    section: sorted(
        set(model.model_fields) - {"tables", "tasks", "args", "kwargs", "options", "proxies", "redact"}
    )
    for section, model in (
        ("routes", RouteSettings),
        ("queue", QueueSettings),
        ("lanes", LaneSettings),
        ("schedules", ScheduleSettings),
        ("web", WebSettings),
    )
}
_UNNAMED = {"queue", "web"}  # sections of one table; the others have named ones


class Given(NamedTuple):
    """A configuration that a program has without a file, such as Django's setting ``PGREACT``."""

    label: str  # the name in messages
    data: Mapping[str, Any]  # what the file would have; tuples, and sets of text, stand for lists
    dsn: Callable[[], str] | None = None  # asked if nothing else says which database


_given: Callable[[], Given] | None = None


def use(given: Callable[[], Given] | None) -> None:
    """Take the configuration from this program, unless a file is named.

    Args:
        given: Called at each :func:`load`; ``None``: read ``pgreact.toml`` again.
    """
    global _given  # noqa: PLW0603 - one configuration per process, as with the file
    _given = given


def load(
    path: str | None,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, str | None] | None = None,
) -> Settings:
    """Read the configuration. The command line overrides the environment, and that the file.

    Args:
        path: The file; ``None``: ``PGREACT_CONFIG``, else what :func:`use` was given, else ``pgreact.toml``
            in the current directory, if any.
        environ: The environment, which can set scalars: keys of the top level as ``PGREACT_DSN``, of
            ``[queue]`` and ``[web]`` as ``PGREACT_QUEUE__LEASE``, of named sections as
            ``PGREACT_ROUTES__NAME__WINDOW``.
        overrides: Scalars of the command line, those of a section as ``web.bind``; ``None``: not given.

    Raises:
        ConfigError: One line for each mistake, with file and key.
    """
    source, data, find_dsn = _read(path or environ.get("PGREACT_CONFIG"))
    sources = _overlay(data, environ)
    for key, value in (overrides or {}).items():
        if value is not None:
            section, _, name = key.rpartition(".")
            (data.setdefault(section, {}) if section else data)[name] = value
            sources[*filter(None, (section, name)),] = "--" + name.replace("_", "-")
    if find_dsn is not None and "dsn" not in data:
        data["dsn"] = find_dsn()
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        lines = [
            _explain(detail, data, sources, source or "the configuration")
            for detail in error.errors()
            # pydantic reports a list whose only item is wrong as empty, too: one mistake, one line
            if not (detail["type"] == "too_short" and _at(data, detail["loc"]))
        ]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None
    _refuse_duplicates(settings, source or "the configuration")
    settings._source = source
    return settings


def _read(named: str | None) -> tuple[str | None, dict[str, Any], Callable[[], str] | None]:
    """Return the source of the configuration, its data, and what finds the database if they do not say."""
    if not named and _given is not None:
        given = _given()
        return given.label, _copied(given.data), given.dsn
    file = Path(named or "pgreact.toml")
    if not named and not file.is_file():
        return None, {}, None
    try:
        return str(file), tomllib.loads(file.read_text(encoding="utf-8")), None
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file; name one with -c or PGREACT_CONFIG") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: {error}") from None


def _copied(value: Any) -> Any:
    """Copy a program's values with the containers that the file has; the leaves may be any objects."""
    match value:
        case Mapping():
            return {key: _copied(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_copied(entry) for entry in value]
        case set() | frozenset():
            return sorted(value, key=str)
    return value


def _overlay(data: dict[str, Any], environ: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """Put the environment's values into the file's data; return the variable of each."""
    sources: dict[tuple[str, ...], str] = {}
    for key in ("dsn", "listen_dsn", "app", "application", "broker", "http", "log_format", "log_level"):
        if value := environ.get(f"PGREACT_{key.upper()}"):
            data[key] = value
            sources[key,] = f"PGREACT_{key.upper()}"
    for variable, value in sorted(environ.items()):
        section, _, rest = variable.removeprefix("PGREACT_").lower().partition("__")
        if not (variable.startswith("PGREACT_") and rest and section in _SCALARS):
            continue
        place: tuple[str, ...] = (section,)
        table, key = data.setdefault(section, {}), rest
        if section not in _UNNAMED:
            name, _, key = rest.rpartition("__")
            place = (section, _entry(variable, section, table, name or key))
            table = table[place[1]]
        if key not in _SCALARS[section]:
            raise ConfigError(f'{variable}: "{key}" cannot be set here{nearest(key, _SCALARS[section])}')
        if isinstance(table, dict):
            table[key] = value
            sources[*place, key] = variable
    return sources


def _entry(variable: str, section: str, entries: Any, word: str) -> str:
    """Return the section's name that a variable means: names may have characters that variables have not."""
    names: dict[str, str] = {
        re.sub(r"[^a-z0-9_]", "_", name.lower()): name
        for name, entry in (entries.items() if isinstance(entries, dict) else ())
        if isinstance(entry, dict)
    }
    if word not in names:
        near = nearest(word, list(names.values()))
        raise ConfigError(f'{variable}: no {section.removesuffix("s")} "{word}" in the file{near}')
    return names[word]


def _explain(
    detail: ErrorDetails, data: Mapping[str, Any], sources: Mapping[tuple[str, ...], str], file: str
) -> str:
    place = tuple(str(part) for part in detail["loc"] if part != "[key]")
    source = sources.get(place, file)
    key = "".join(
        f"[{part}]" if isinstance(part, int) else f".{quoted(part)}"
        for part in detail["loc"]
        if part != "[key]"
    ).lstrip(".")
    message = explain(detail)
    match detail["type"]:
        case "extra_forbidden":
            known = _model(place).model_fields
            message = f'unknown key "{place[-1]}"{nearest(place[-1], list(known))}'
        case "literal_error":
            wrong = _at(data, detail["loc"])
            known_words = re.findall(r"'([^']+)'", detail["msg"])
            message = f"{wrong!r} is not known{nearest(str(wrong), known_words)}"
        case "string_pattern_mismatch":
            message = _RULES.get(place[0], message)
    return f"{source}: {key}: {message}"


# by section: of the names in it, or of the only key with a pattern
_RULES = {
    "routes": ROUTE_NAME_RULE,
    "queue": LANE_NAME_RULE,
    "lanes": LANE_NAME_RULE,
    "outbox": LANE_NAME_RULE,
    "schedules": SCHEDULE_NAME_RULE,
    "web": PREFIX_RULE,
}


def _model(place: tuple[str, ...]) -> type[BaseModel]:
    match place:
        case ("routes", _, _):
            return RouteSettings
        case ("routes", *_):
            return Watch
    parts: dict[str, type[BaseModel]] = {
        "queue": QueueSettings,
        "lanes": LaneSettings,
        "outbox": Outbox,
        "schedules": ScheduleSettings,
        "web": WebSettings,
    }
    return parts.get(place[0], Settings)


def _at(data: Any, place: tuple[str | int, ...]) -> Any:
    for part in place:
        data = data[part]
    return data


def _refuse_duplicates(settings: Settings, file: str) -> None:
    if QUEUE_ROUTE in settings.routes:
        raise ConfigError(
            f"{file}: routes.{QUEUE_ROUTE}: this route is built in: [queue] and [lanes.NAME] configure it"
        )
    attached: dict[tuple[str, str, str], int] = {}
    for index, entry in enumerate(settings.outbox):
        for event in entry.on:
            first = attached.setdefault((entry.table, event, entry.enqueue), index)
            if first != index:
                raise ConfigError(
                    f"{file}: outbox[{index}]: {event} of {entry.table} enqueues {entry.enqueue} in "
                    f"outbox[{first}] already"
                )
    for name, route in settings.routes.items():
        seen: dict[tuple[str, str], int] = {}
        for index, watch in enumerate(route.tables):
            for event in watch.on:
                first = seen.setdefault((watch.table, event), index)
                if first != index:
                    raise ConfigError(
                        f"{file}: routes.{name}.tables[{index}]: {event} of {watch.table} is in "
                        f"tables[{first}] already"
                    )
