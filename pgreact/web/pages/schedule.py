"""The page of one schedule: when it runs next and ran, what it calls, and its punch card."""

import json
from typing import Any

from pgreact.postgres.change import Connection, rows
from pgreact.postgres.queries import query
from pgreact.queue.redaction import Redaction
from pgreact.timetable import views
from pgreact.timetable.occurrences import zone_of
from pgreact.timetable.plan import recurrence_text
from pgreact.timetable.why import why
from pgreact.web.page import Page, Query
from pgreact.web.pages import schedules
from pgreact.web.punch_card import Card, punch_card


def _name(request: Query) -> str:
    return request.params.get("name", "").replace("\0", "")


def _schedule(connection: Connection, request: Query) -> dict[str, Any]:
    found = views.schedule(connection, _name(request))
    row, redaction = found["schedule"], Redaction(request.settings.web.redact)
    arguments = {
        section: json.dumps(
            redaction.arguments(row["task"], section, row[section]), ensure_ascii=False, indent=2
        )
        for section in ("args", "kwargs", "options")
        if row[section]
    }
    return {
        **found,
        "recurs": recurrence_text(row),
        "arguments": arguments if request.user.acts else None,
        "hides": redaction.hides(row["task"]),
    }


def _card(connection: Connection, request: Query) -> Card | None:
    row = views.named(connection, [_name(request)])[_name(request)]
    if row["retention"] is None:
        return None
    cells = rows(connection, query("web_punch_card"), {"name": row["name"], "timezone": row["timezone"]})
    return punch_card(cells, zone_of(row), request.now)


def _why(connection: Connection, request: Query) -> dict[str, Any]:
    found = why(connection, _name(request))
    if found["last_job"] is not None:
        Redaction(request.settings.web.redact).hide_errors(found["last_job"])
    return found


SCHEDULE = Page(
    "schedule",
    "Schedule",
    {"schedule": _schedule, "why": _why, "card": _card},
    {"enable": schedules.enable, "disable": schedules.disable, "run": schedules.run},
    listed=False,
)
