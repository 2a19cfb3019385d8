"""The page of dead jobs, grouped by error."""

from pgreact.postgres.change import Connection
from pgreact.queue.dead_groups import Groups, dead_groups
from pgreact.queue.redaction import Redaction
from pgreact.web.page import Page, Query


def _groups(connection: Connection, request: Query) -> Groups:
    return dead_groups(connection, Redaction(request.settings.web.redact).tasks)


DEAD = Page("dead", "Dead jobs", {"groups": _groups})
