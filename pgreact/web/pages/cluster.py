"""The page of the cluster: daemons, workers, sessions, versions, and the log of events."""

from typing import Any
from urllib.parse import urlencode

from pgreact import __version__
from pgreact.postgres.application_name import parse
from pgreact.postgres.change import Connection, rows
from pgreact.postgres.queries import query
from pgreact.web.page import Page, Query

EVENTS = 50  # of a page of the log
KINDS = ("daemon", "gate", "job", "lane", "leader", "route", "schedule", "schema")  # the nouns of events


def _sessions(connection: Connection, _query: Query) -> dict[str, Any]:
    daemons = {row["application_name"]: row["granted"] for row in rows(connection, query("daemons"))}
    found = rows(connection, query("web_sessions"))
    for row in found:
        row["identity"] = parse(row["application_name"])
        row["leads"] = daemons.get(row["application_name"])
    leaders = [row for row in found if row["leads"]]
    standbys = [row for row in found if row["leads"] is False]
    return {"sessions": found, "leaders": leaders, "standbys": standbys}


def _workers(connection: Connection, _query: Query) -> list[dict[str, Any]]:
    return rows(connection, query("web_workers"))


def _versions(connection: Connection, _query: Query) -> dict[str, Any]:
    return {**rows(connection, query("web_versions"))[0], "pages": __version__}


def _events(connection: Connection, request: Query) -> dict[str, Any]:
    """Return a page of the log; the next one begins below the id of its last row."""
    kind, text = request.params.get("kind", ""), request.params.get("text", "")[:100].replace("\0", "")
    before = request.params.get("before", "")
    parameters = {
        "before": int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None,
        "kind": kind.replace("\0", "") or None,
        "text": text or None,
        "limit": EVENTS + 1,
    }
    found = rows(connection, query("web_events"), parameters)
    filters = {key: value for key, value in (("kind", kind), ("text", text)) if value}
    return {
        "rows": found[:EVENTS],
        "kinds": KINDS,
        "kind": kind,
        "text": text,
        "first": f"?{urlencode(filters)}" if parameters["before"] else "",
        "next": f"?{urlencode({**filters, 'before': found[EVENTS - 1]['id']})}"
        if len(found) > EVENTS
        else "",
    }


CLUSTER = Page(
    "cluster",
    "Cluster",
    {"daemons": _sessions, "workers": _workers, "versions": _versions, "events": _events},
)
