"""The permission to see the arguments of jobs: an operator has it, if the database role may read them."""

from pgreact.postgres.change import Connection
from pgreact.web.page import Query


def readable(connection: Connection, request: Query) -> bool:
    """Return whether the user is an operator, and the pages' role may read arguments."""
    [[granted]] = connection.execute(
        "select bool_and(has_column_privilege('pgreact.' || t, 'args', 'select')) "
        "from unnest('{queue,in_progress,dead}'::text[]) t"
    ).fetchall()
    return request.user.acts and bool(granted)
