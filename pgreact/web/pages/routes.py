"""The page of routes: signals, dispatches, gate, triggers; signal a route."""

from typing import Any

from starlette.datastructures import FormData

from pgreact.cli import status
from pgreact.postgres.change import Connection, conditions
from pgreact.postgres.event_log import log
from pgreact.queue import views
from pgreact.web.actions import field
from pgreact.web.page import Page, Query


def _routes(connection: Connection, _query: Query) -> list[dict[str, Any]]:
    """Return the routes; the queue's own comes last, with the triggers of its tables."""
    found = status.read(connection)
    queue = found["queue"]
    routes = [{**route, "built_in": False} for route in found["routes"]]
    if queue["dispatch"]:
        routes.append({**queue["dispatch"], "tables": queue["triggers"], "built_in": True})
    for route in routes:
        for table in route["tables"]:
            when = conditions(table["condition"], table["always"], table["changed"])
            table["when"] = when.lstrip(", ")
            table["remedy"] = views.remedy(table)
    return routes


def _signal(connection: Connection, form: FormData) -> str:
    route = field(form, "route")
    connection.execute("select pgreact.signal(%s)", (route,))
    log(connection, "route.signalled", route)
    return f"signalled {route}"


ROUTES = Page("routes", "Routes", {"routes": _routes}, {"signal": _signal})
