"""Entries of pgreact's event log that no trigger writes."""

import json
from typing import Any

from pgreact.postgres.change import Connection


def log(connection: Connection, event: str, subject: str, **details: Any) -> None:
    """Write an event, with the setting ``pgreact.actor`` as its actor; it commits with the transaction.

    Args:
        connection: Any session on the database.
        event: ``noun.past_participle``.
        subject: The name of what it happened to.
        **details: More, as JSON.
    """
    connection.execute("select pgreact.log_event(%s, %s, %s::jsonb)", (event, subject, json.dumps(details)))
