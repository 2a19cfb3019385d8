"""The configuration: one TOML file and the environment, checked once, then frozen."""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from pgreact.errors import ConfigError
from pgreact.logs import Format, Level
from pgreact.schedule_settings import STRICT, ScheduleSettings
from pgreact.units import Duration, Keep, Limit, Rate, StartWithin, Tasks

_SHOWN = 12  # names in a message
_NAME = r"^[A-Za-z_][A-Za-z0-9_.-]{0,62}$"
_LANE = r"^[^\x00-\x1f\x7f-\x9f]{1,255}$"  # a Celery queue's name
_TITLE = r"^[^\x00]{1,200}$"
_EVENTS = Literal["insert", "update", "delete", "truncate"]
BUILT_IN = "pgreact.queue"  # the route that wakes the queue's own dispatch
_RESERVED_OPTIONS = {
    "countdown": "set the route's own countdown",
    "expires": "set the route's own expires",
    "eta": "set the route's own countdown",
    "task_id": "each dispatch gets an id of its own",
    "retry": "pgreact retries by itself, for ever",
    "retry_policy": "pgreact retries by itself, for ever",
    "connection": "pgreact has its own",
    "producer": "pgreact has its own",
    "publisher": "pgreact has its own",
    "add_to_parent": "a dispatch has no parent",
}


class _Model(BaseModel):
    model_config = STRICT


class Watch(_Model):
    """Which changes of one table signal a route."""

    table: str = Field(min_length=1)
    on: tuple[_EVENTS, ...] = Field(min_length=1)
    when: str | None = Field(default=None, min_length=1)
    changed: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(default=None, min_length=1)
    always: bool = False

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if len(set(self.on)) != len(self.on):
            raise ValueError(f"on names an event twice: {', '.join(self.on)}")
        if self.when is not None and "truncate" in self.on:
            raise ValueError("a truncate has no rows, so it takes no when: give it an entry of its own")
        if self.changed is not None and "update" not in self.on:
            raise ValueError('changed names columns that an update must change: it needs "update" in on')
        return self

    def changed_by(self, *events: str) -> list[str] | None:
        """Return the columns of which an update must change one; ``None``: none, or no event is an update."""
        return [*self.changed] if self.changed is not None and "update" in events else None


class QueueSettings(_Model):
    """What holds for all lanes together; a key that the file does not name is left as the database has it."""

    max_in_progress: Limit = None
    lease: Annotated[Duration, Field(ge=1, le=86400)] = 60.0
    keep: Keep = None
    dead_retention: Keep = None
    start_within: StartWithin = 7 * 86400.0


class LaneSettings(_Model):
    """One lane; a key that the file does not name is left as the database has it."""

    max_in_progress: Limit = None
    max_unstarted: int = Field(default=200, ge=1, lt=2**31)
    max_lost: int = Field(default=3, ge=0, lt=2**31)
    weight: int = Field(default=1, ge=1, le=1000)
    rate: Rate = None
    burst: int = Field(default=1, ge=1, lt=2**31)
    paused: bool = False
    tasks: Tasks = None


class Outbox(Watch):
    """Which changes of one table enqueue a job of their own."""

    on: tuple[_EVENTS, ...] = Field(default=("insert", "update", "delete"), min_length=1)
    enqueue: str = Field(min_length=1, max_length=255)
    lane: str | None = Field(default=None, pattern=_LANE)


class RouteSettings(_Model):
    """One route, as the file names it."""

    task: str = Field(min_length=1)
    window: Annotated[Duration, Field(le=3600)] = 0.1
    countdown: Duration = 0.0
    expires: Duration = 15.0
    sweep: Duration = 60.0
    single_flight: Literal["publish", "run"] = "publish"
    gate: Literal["auto", "open", "closed"] = "auto"
    gate_poll: Annotated[Duration, Field(ge=0.005, le=10)] = 0.04
    gate_close_rate: int = Field(default=100, gt=0)
    gate_open_after: Annotated[Duration, Field(ge=0.1, le=3600)] = 1.0
    options: dict[str, Any] = {}
    ready: str | None = Field(default=None, min_length=1)
    tables: tuple[Watch, ...] = ()

    @model_validator(mode="after")
    def _checked(self) -> Self:
        for option in self.options:
            if option in _RESERVED_OPTIONS:
                raise ValueError(f"options must not name {option}: {_RESERVED_OPTIONS[option]}")
        if self.single_flight == "run" and not self.expires:
            raise ValueError('single_flight = "run" needs expires: a message that is lost tells nobody')
        if 0 < self.sweep < 1:
            raise ValueError('sweep must be 0 (off) or at least "1s": it is a backstop, not a poll')
        return self


class Settings(_Model):
    """All of the configuration."""

    dsn: str = ""
    listen_dsn: str | None = None
    app: str | None = None
    application: str | None = Field(default=None, min_length=1, max_length=200)
    broker: str | None = None
    log_format: Format = "auto"
    log_level: Level = "info"
    routes: dict[Annotated[str, Field(pattern=_NAME)], RouteSettings] = {}
    queue: QueueSettings = QueueSettings()
    lanes: dict[Annotated[str, Field(pattern=_LANE)], LaneSettings] = {}
    outbox: tuple[Outbox, ...] = ()
    schedules: dict[Annotated[str, Field(pattern=_TITLE)], ScheduleSettings] = {}

    _file: Path | None = None

    @property
    def file(self) -> Path | None:
        """The file it was read from, if any."""
        return self._file

    @property
    def belongs_to(self) -> str | None:
        """The name of the application, for the database to know it by: as set, or the package of ``app``."""
        if self.application is not None or self.app is None:
            return self.application
        return re.split(r"[.:]", self.app)[0] or None

    @property
    def tasks(self) -> dict[str, str]:
        """The tasks that it names, by the key that does."""
        found = {f"routes.{name}.task": route.task for name, route in self.routes.items()}
        found |= {f"outbox[{index}].enqueue": entry.enqueue for index, entry in enumerate(self.outbox)}
        found |= {f"schedules.{quoted(name)}.task": entry.task for name, entry in self.schedules.items()}
        for name, lane in self.lanes.items():
            found |= {f"lanes.{name}.tasks[{index}]": task for index, task in enumerate(lane.tasks or ())}
        return found

    @property
    def names_objects(self) -> bool:
        """It says what ought to be in the database, and not only where that is."""
        return bool(self.routes or self.lanes or self.outbox or self.schedules or self.queue.model_fields_set)

    @property
    def daemon_dsn(self) -> str:
        """Where the daemon's sessions connect: they need a session of their own, no pooler."""
        return self.dsn if self.listen_dsn is None else self.listen_dsn


# by section, what the environment may say
_SCALARS = {
    section: sorted(set(model.model_fields) - {"tables", "tasks", "args", "kwargs", "options"})
    for section, model in (
        ("routes", RouteSettings),
        ("queue", QueueSettings),
        ("lanes", LaneSettings),
        ("schedules", ScheduleSettings),
    )
}


def load(
    path: str | None,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, str | None] | None = None,
) -> Settings:
    """Read the configuration: the command line wins over the environment, and that over the file.

    Args:
        path: The file; ``None``: ``PGREACT_CONFIG``, else ``pgreact.toml`` here if there is one.
        environ: Holds ``PGREACT_DSN`` and so on, ``PGREACT_QUEUE__KEEP``, and for what is named
            ``PGREACT_ROUTES__NAME__WINDOW``: all scalars.
        overrides: Scalars from the command line; ``None``: not given.

    Raises:
        ConfigError: One line for each mistake, naming file and key.
    """
    named = path or environ.get("PGREACT_CONFIG")
    file = Path(named) if named else Path("pgreact.toml")
    data: dict[str, Any] = {}
    if named or file.is_file():
        try:
            data = tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"{file}: no such file; name one with -c or PGREACT_CONFIG") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{file}: {error}") from None
    else:
        file = None  # type: ignore[assignment]
    sources = _overlay(data, environ)
    for key, value in (overrides or {}).items():
        if value is not None:
            data[key] = value
            sources[key,] = "--" + key.replace("_", "-")
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        lines = [
            _explain(detail, data, sources, str(file or "the configuration"))
            for detail in error.errors()
            # a list whose only item is wrong counts as empty, too: one mistake, one line
            if not (detail["type"] == "too_short" and _at(data, detail["loc"]))
        ]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None
    _refuse_twins(settings, str(file))
    settings._file = file
    return settings


def nearest(word: str, known: list[str]) -> str:
    """Return ``; did you mean "…"?``, or the names there are, or nothing where there are none."""
    close = difflib.get_close_matches(word, known, 1)
    if close:
        return f'; did you mean "{close[0]}"?'
    more = ", …" if len(known) > _SHOWN else ""
    return f"; there are: {', '.join(sorted(known)[:_SHOWN])}{more}" if known else ""


def quoted(key: str) -> str:
    """Return a key or a name as it stands in a message: as it is, unless it would not be one word."""
    return key if re.fullmatch(r"[A-Za-z0-9_.-]+", key) else json.dumps(key, ensure_ascii=False)


def _overlay(data: dict[str, Any], environ: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """Lay the environment over the file's data; return where each such key came from."""
    sources: dict[tuple[str, ...], str] = {}
    for key in ("dsn", "listen_dsn", "app", "application", "broker", "log_format", "log_level"):
        if value := environ.get(f"PGREACT_{key.upper()}"):
            data[key] = value
            sources[key,] = f"PGREACT_{key.upper()}"
    for variable, value in sorted(environ.items()):
        section, _, rest = variable.removeprefix("PGREACT_").lower().partition("__")
        if not (variable.startswith("PGREACT_") and rest and section in _SCALARS):
            continue
        place: tuple[str, ...] = (section,)
        table, key = data.setdefault(section, {}), rest
        if section != "queue":
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
    """Return the name of what a variable is about; it may have characters that a variable's name has not."""
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
    message = detail["msg"].removeprefix("Value error, ")
    match detail["type"]:
        case "extra_forbidden":
            known = _model(place).model_fields
            message = f'unknown key "{place[-1]}"{nearest(place[-1], list(known))}'
        case "missing":
            message = "is missing"
        case "too_short":
            message = "must not be empty"
        case "literal_error":
            wrong = _at(data, detail["loc"])
            known_words = re.findall(r"'([^']+)'", message)
            message = f"{wrong!r} is not known{nearest(str(wrong), known_words)}"
        case "string_pattern_mismatch" if place[0] == "schedules":
            message = "a schedule's name has 1 to 200 characters, none of them NUL"
        case "string_pattern_mismatch" if place[0] != "routes":
            message = "a lane's name has 1 to 255 characters, none of them a control character"
        case "string_pattern_mismatch":
            message = (
                'a route\'s name begins with a letter or "_" and goes on with letters, digits, "_", "." '
                'and "-", 63 in all'
            )
        case _:
            message = f"{message[:1].lower()}{message[1:]}"
    return f"{source}: {key}: {message}"


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
    }
    return parts.get(place[0], Settings)


def _at(data: Any, place: tuple[str | int, ...]) -> Any:
    for part in place:
        data = data[part]
    return data


def _refuse_twins(settings: Settings, file: str) -> None:
    if BUILT_IN in settings.routes:
        raise ConfigError(
            f"{file}: routes.{BUILT_IN}: this route is built in; [queue] and [lanes.NAME] say what it does"
        )
    attached: dict[tuple[str, str, str], int] = {}
    for index, entry in enumerate(settings.outbox):
        for event in entry.on:
            first = attached.setdefault((entry.table, event, entry.enqueue), index)
            if first != index:
                raise ConfigError(
                    f"{file}: outbox[{index}]: {event} of {entry.table} enqueues {entry.enqueue} already "
                    f"in outbox[{first}]"
                )
    for name, route in settings.routes.items():
        seen: dict[tuple[str, str], int] = {}
        for index, watch in enumerate(route.tables):
            for event in watch.on:
                first = seen.setdefault((watch.table, event), index)
                if first != index:
                    raise ConfigError(
                        f"{file}: routes.{name}.tables[{index}]: {event} of {watch.table} is named already "
                        f"in tables[{first}]"
                    )
