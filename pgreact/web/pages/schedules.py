"""The page of schedules: search, state, and actions on one or on all that match."""

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args
from urllib.parse import urlencode

from starlette.datastructures import FormData

from pgreact.postgres.change import Connection
from pgreact.postgres.event_log import log
from pgreact.timetable import edit, views
from pgreact.timetable.overview import overview
from pgreact.timetable.plan import recurrence_text
from pgreact.timetable.views import Which
from pgreact.web.actions import field
from pgreact.web.page import Page, Query

PAGE = 50
KINDS: tuple[Which, ...] = get_args(Which)


@dataclasses.dataclass(frozen=True)
class Schedules:
    """Schedules by name.

    Attributes:
        rows: Those of this page, each with its recurrence as text.
        next: The query of the URL of the next page; ``None``: this is the last one.
        filter: The query of the URL without the place in the list.
    """

    rows: list[dict[str, Any]]
    next: str | None
    filter: str


def chosen(params: Mapping[str, str]) -> tuple[str | None, Which | None]:
    """Return pattern and kind of a search; a text without ``*`` or ``?`` is a part of the name."""
    text = params.get("name", "").replace("\0", "").strip()
    pattern = (text if {"*", "?"} & set(text) else f"*{text}*") if text else None
    kind = params.get("which", "")
    return pattern, next((which for which in KINDS if which == kind), None)


def _schedules(connection: Connection, request: Query) -> Schedules:
    pattern, which = chosen(request.params)
    after = request.params.get("after", "").replace("\0", "") or None
    found = views.schedules(connection, pattern, PAGE + 1, which=which, after=after)
    rows = [{**row, "recurs": recurrence_text(row)} for row in found[:PAGE]]
    kept = {name: request.params[name] for name in ("name", "which") if request.params.get(name)}
    following = urlencode({**kept, "after": rows[-1]["name"]}) if len(found) > PAGE else None
    return Schedules(rows, following, urlencode(kept))


def _overview(connection: Connection, _request: Query) -> dict[str, Any]:
    return overview(connection)


def enable(connection: Connection, form: FormData) -> str:
    """Enable the schedule of a form."""
    name = field(form, "name")
    edit.enable(connection, [name], enabled=True)
    return f"enabled {name}"


def disable(connection: Connection, form: FormData) -> str:
    """Disable the schedule of a form."""
    name = field(form, "name")
    edit.enable(connection, [name], enabled=False)
    return f"disabled {name}; jobs that are already enqueued stay"


def run(connection: Connection, form: FormData) -> str:
    """Run the schedule of a form now."""
    name = field(form, "name")
    edit.run(connection, [name])
    log(connection, "schedule.run_requested", name)
    return f"running {name}; its next occurrences stay as planned"


SCHEDULES = Page(
    "schedules",
    "Schedules",
    {"overview": _overview, "schedules": _schedules},
    {"enable": enable, "disable": disable, "run": run},
)
