"""The reading of ``pgreact top``: the reports of ``pgreact status``, and what was settled lately."""

import dataclasses
import datetime
import time
from typing import Any

from pgreact.cli import status
from pgreact.postgres.change import Connection, rows
from pgreact.postgres.queries import query
from pgreact.queue.flow import Flow, flow

EVENTS = 30  # the last ones, as far as they fit the screen
DEAD = 5  # the last ones
TIMEOUT = "2s"  # of each statement


@dataclasses.dataclass(frozen=True)
class Reading:
    """The state of the cluster at one time.

    Attributes:
        status: See :func:`pgreact.cli.status.read`.
        flow: By lane, what was settled lately.
        dead: The jobs that died last.
        events: The last events of the log.
        at: The server's time.
        read: When, by the monotonic clock.
    """

    status: dict[str, Any]
    flow: dict[str, Flow]
    dead: list[dict[str, Any]]
    events: list[dict[str, Any]]
    at: datetime.datetime
    read: float


def read(connection: Connection) -> Reading:
    """Read the state of the cluster, in one transaction.

    Args:
        connection: A session outside a transaction; a role of kind ``monitor`` suffices.

    Raises:
        psycopg.Error: The connection is lost, or a statement took more than 2 s.
    """
    with connection.transaction():
        connection.execute("select set_config('statement_timeout', %s, true)", (TIMEOUT,))
        [clock] = rows(connection, "select clock_timestamp() as now")
        return Reading(
            status=status.read(connection),
            flow=flow(connection),
            dead=rows(connection, query("dead_lately"), {"limit": DEAD}),
            events=rows(connection, query("events_lately"), {"limit": EVENTS}),
            at=clock["now"],
            read=time.monotonic(),
        )
