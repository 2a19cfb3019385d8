"""The filter of a search for jobs, read from the fields of a form, and its conditions in SQL."""

import dataclasses
import datetime
import re
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from psycopg import sql

from pgreact.errors import PgreactError
from pgreact.postgres.glob import like_pattern
from pgreact.queue.argument_path import ArgumentSearch, parse_search
from pgreact.queue.redaction import Redaction
from pgreact.queue.views import STATES

FIELDS = ("state", "task", "lane", "key", "error", "pattern", "args", "id", "up_to", "until")
_LIMIT = 1000  # characters of a field
# @@ decides a predicate, which jsonpath shows in parentheses; @? whether there is an item
_MATCHES = """case
    when %(jsonpath)s::jsonpath::text ~ '^(strict )?([(!]|exists)' then
        jsonb_build_object('args', j.args, 'kwargs', j.kwargs) @@ %(jsonpath)s::jsonpath
    else jsonb_build_object('args', j.args, 'kwargs', j.kwargs) @? %(jsonpath)s::jsonpath
end"""


class InvalidFilter(PgreactError):
    """Fields of a form are wrong.

    Attributes:
        fields: What is wrong, by the field's name.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {message}" for name, message in fields.items()))
        self.fields = dict(fields)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filter:
    """The conditions of a search for jobs; ``None``: none.

    Attributes:
        text: The fields as they were typed.
        states: States of a job.
        task: A pattern for SQL's ``like``.
        error: A part of the error's text, in either case.
        pattern: The error's pattern, as ``pgreact.error_pattern`` makes it.
        arguments: A search in args and kwargs.
        left_out: Patterns of the tasks that it leaves out: ``arguments`` could find a hidden value of them.
        up_to: The highest id.
        until: Dead jobs died at this time at the latest.
    """

    text: Mapping[str, str]
    states: tuple[str, ...] = STATES
    task: str | None = None
    lane: str | None = None
    key: str | None = None
    error: str | None = None
    pattern: str | None = None
    arguments: ArgumentSearch | None = None
    left_out: tuple[str, ...] = ()
    id: int | None = None
    task_id: UUID | None = None
    up_to: int | None = None
    until: datetime.datetime | None = None

    @property
    def described(self) -> str:
        """The filter for people, like ``state dead, task shop.*``."""
        return (
            ", ".join(f"{name} {value}" for name, value in self.logged.items() if name in FIELDS[:8]) or "all"
        )

    @property
    def logged(self) -> dict[str, str]:
        """The fields without the values of arguments, which not all who read the log may see."""
        if self.arguments is None:
            return dict(self.text)
        return {**self.text, "args": ".".join(self.arguments.path or ("(jsonpath)",))}

    def only(self, states: tuple[str, ...]) -> "Filter":
        """Return the filter for these states alone."""
        return dataclasses.replace(self, states=states)

    def conditions(self) -> tuple[sql.Composable, dict[str, Any]]:
        """Return the conditions on ``j``, a row of ``web_jobs``, and their parameters."""
        found = [(condition, values) for condition, values in self._conditions() if values is not None]
        where = sql.SQL(" and ").join([sql.SQL("true"), *(sql.SQL(condition) for condition, _ in found)])
        return where, {name: value for _, values in found for name, value in (values or {}).items()}

    def _conditions(self) -> Iterator[tuple[Any, dict[str, Any] | None]]:
        def given(name: str) -> dict[str, Any] | None:
            value = getattr(self, name)
            return None if value is None else {name: value}

        yield "j.state = any (%(states)s)", {"states": [*self.states]}
        yield "j.task like %(task)s", given("task")
        yield "j.lane = %(lane)s", given("lane")
        yield "j.key = %(key)s", given("key")
        yield "j.id = %(id)s", given("id")
        yield "j.task_id = %(task_id)s", given("task_id")
        yield "j.id <= %(up_to)s", given("up_to")
        yield "(j.died_at is null or j.died_at <= %(until)s)", given("until")
        if self.error is not None:
            yield "j.error ilike %(error)s", {"error": like_pattern(self.error, whole=False)}
        yield "pgreact.error_pattern(j.error) = %(pattern)s", given("pattern")
        if self.arguments is not None:
            values = {"jsonpath": self.arguments.jsonpath, "left_out": [*self.left_out]}
            yield "j.task not like all (%(left_out)s)", values
            yield _MATCHES, values


def parse_filter(values: Mapping[str, str], redaction: Redaction) -> Filter:
    """Read the fields of a form.

    Args:
        values: The texts, by field; unknown fields and empty texts are ignored.
        redaction: What no search may find.

    Raises:
        InvalidFilter: Fields are wrong.
    """
    text = {name: values[name].strip() for name in FIELDS if values.get(name, "").strip()}
    if values.get("pattern"):
        text["pattern"] = values["pattern"]  # as error_pattern made it: it may end with a blank
    wrong = {name: f"has more than {_LIMIT} characters" for name in text if len(text[name]) > _LIMIT}
    wrong |= {name: "contains a NUL character" for name in text if "\0" in text[name]}
    found: dict[str, Any] = {}
    for name, value in text.items():
        if name not in wrong:
            try:
                found |= _read(name, value)
            except ValueError as error:
                wrong[name] = str(error)
    if (search := found.get("arguments")) is not None:
        found["left_out"] = tuple(redaction.hidden_tasks(search.path))
        if found["left_out"] and "task" in text and redaction.refuses(text["task"], search.path):
            wrong["args"] = f"the path leads into values of {text['task']} that are hidden"
    if wrong:
        raise InvalidFilter(wrong)
    return Filter(text=text, **found)


def _read(name: str, value: str) -> dict[str, Any]:  # noqa: PLR0911 - one for each kind of field
    match name:
        case "state":
            if value not in STATES:
                raise ValueError(f'"{value}" is no state; there are: {", ".join(STATES)}')
            return {"states": (value,)}
        case "task":
            return {"task": like_pattern(value)}
        case "args":
            return {"arguments": parse_search(value)}
        case "id":
            return _id(value)
        case "up_to":
            return {"up_to": int(_id(value).get("id", 0))}
        case "until":
            return {"until": datetime.datetime.fromisoformat(value)}
    return {name: value}


def _id(value: str) -> dict[str, Any]:
    if re.fullmatch(r"[0-9]{1,19}", value) and int(value) < 2**63:
        return {"id": int(value)}
    try:
        return {"task_id": UUID(value)}
    except ValueError:
        raise ValueError(f'"{value}" is neither the number of a job nor the UUID of a task') from None
