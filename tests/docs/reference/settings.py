"""The settings, from the sections' models. The comments of columns describe the keys that they mirror."""

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import psycopg
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pgreact import section
from pgreact.quantities import format_duration
from pgreact.queue.settings import LaneSettings, Outbox, QueueSettings
from pgreact.settings import Settings
from pgreact.timetable.settings import ScheduleSettings
from pgreact.wakeup.settings import RouteSettings, Watch
from pgreact.web.settings import WebSettings
from tests.docs.reference.markdown import code, finished, head, table

SECTIONS: tuple[tuple[str, type[BaseModel], str | None], ...] = (
    ("Top level", Settings, None),
    ("[routes.NAME]", RouteSettings, "route"),
    ("Entries of routes.NAME.tables", Watch, "watched"),
    ("[queue]", QueueSettings, "queue_setting"),
    ("[lanes.NAME]", LaneSettings, "lane"),
    ("[[outbox]]", Outbox, "outbox"),
    ("[schedules.NAME]", ScheduleSettings, "schedule"),
    ("[web]", WebSettings, None),
)
_COMMENTS = """
select c.relname, a.attname, col_description(a.attrelid, a.attnum)
from pg_attribute a
join pg_class c on c.oid = a.attrelid
where c.relnamespace = 'pgreact'::regnamespace
    and a.attnum > 0
    and col_description(a.attrelid, a.attnum) is not null
"""
_QUANTITIES = {
    section.Canary: 'duration, or `"none"`',
    section.Duration: "duration",
    section.HttpAddress: "`HOST:PORT`",
    section.Limit: 'number from 1, or `"none"`',
    section.Rate: 'jobs a second, or like `"100/m"`, or `"none"`',
    section.Retention: 'duration, or `"none"`',
    section.StartWithin: 'duration, or `"none"`',
    section.Tasks: 'list of names, or `"none"`',
    section.Time: "time",
}
_PLAIN = {
    str: "text",
    int: "number",
    bool: "`true` or `false`",
    float: "duration",
    Any: "any value",
    Watch: "entries",
}


def page(connection: "psycopg.Connection[tuple[Any, ...]]") -> str:
    """Return ``docs/reference/settings.md``.

    Args:
        connection: To a database with pgreact's schema.

    Raises:
        LookupError: A key has neither a description nor a column with a comment.
    """
    comments = {(relation, column): text for relation, column, text in connection.execute(_COMMENTS.encode())}
    lines = head(
        "Settings",
        "the sections of the configuration",
        "[Configuration](../configuration.md) says where they come from.",
    )
    lines += [
        'A duration is text like `"100ms"`, `"15s"`, `"2m"`, `"1h"` or `"1d"`, or a number of seconds.',
        '`"none"` means no limit. Keys of `[queue]`, `[lanes.NAME]` and `[schedules.NAME]` are also columns.',
        "",
    ]
    for title, model, relation in SECTIONS:
        lines += [f"## {title}", "", (model.__doc__ or "").split("\n\n")[0].replace("``", "`"), ""]
        lines += table(("key", "value", "default", "meaning"), _rows(model, relation, comments))
    return finished(lines)


def _rows(
    model: type[BaseModel], relation: str | None, comments: Mapping[tuple[str, str], str]
) -> Iterator[tuple[str, str, str, str]]:
    for name, field in model.model_fields.items():
        if _sections(field.annotation):
            continue
        meaning = field.description or comments.get((relation or "", name), "").replace("null:", "none:")
        if not meaning:
            raise LookupError(
                f"{model.__name__}.{name}: write Field(description=...), or a comment on {relation}.{name}"
            )
        yield code(name), _kind(field), _default(field), meaning


def _sections(annotation: Any) -> bool:
    """Return whether a field holds sections, which have tables of their own."""
    if isinstance(annotation, type) and not get_args(annotation):
        return issubclass(annotation, BaseModel)
    return any(_sections(part) for part in get_args(annotation)) and annotation != tuple[Watch, ...]


def _kind(field: FieldInfo) -> str:
    annotation = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return _described(annotation)


def _described(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        kind, *metadata = parts
        known = [
            text
            for quantity, text in _QUANTITIES.items()
            if get_args(quantity)[0] == kind and {*get_args(quantity)[1:]} <= {*metadata}
        ]
        text = (known[0] if known else _described(kind)) + _bounds(metadata)
    elif origin in {Union, types.UnionType}:
        text = " or ".join(_described(part) for part in parts if part is not type(None))
    elif origin is Literal:
        text = ", ".join(f'`"{word}"`' for word in parts)
    elif origin in {tuple, list}:
        text = f"list of {_described(parts[0])}"
    else:
        text = "table" if origin is dict else _PLAIN[annotation]
    return text


def _bounds(metadata: list[Any]) -> str:
    """Return the bounds of a value, as text that follows its kind."""
    found = []
    for each in metadata:
        match each:
            case section.Between():
                found.append(f"{each.least} to {each.most}")
            case annotated_types.Ge():
                found.append(f"from {each.ge}")
            case annotated_types.Gt():
                found.append(f"above {each.gt}")
            case annotated_types.Le():
                found.append(f"to {each.le}")
            case annotated_types.Lt():
                found.append(f"below {each.lt}" if each.lt not in {2**31, 2**63} else "")
            case annotated_types.MaxLen():
                found.append(f"at most {each.max_length} characters")
    return "".join(f", {text}" for text in found if text)


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.is_required():
        return "required"
    if value is None or value in ("", (), {}, []):
        return ""
    if isinstance(value, bool):
        return code(str(value).lower())
    if isinstance(value, float):
        return code(format_duration(value))
    return code(", ".join(value) if isinstance(value, tuple) else str(value))
