"""The canary in ``pgreact status``: the time of the last round trip, or where it is stuck."""

import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from pgreact.postgres.queries import query
from pgreact.quantities import format_duration


def read(connection: "psycopg.Connection[tuple[Any, ...]]") -> dict[str, Any] | None:
    """Return the canary, ready for JSON; ``None``: it is off.

    Args:
        connection: Any session on the database.

    Returns:
        The row of ``sql/queries/canary.sql``: ``every_s``, ``sent_at``, ``returned_at``, ``seconds`` (the
        last round trip), ``failures`` (since the installation), ``age_s`` (since the last return, or since
        the one that is not back was sent), ``place`` (where that one is), ``job`` (its id, unless it was
        cancelled), ``failing`` (it should be back).
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(query("canary").encode()).fetchone()
    return row if row and row["every_s"] is not None else None


def reason(canary: dict[str, Any] | None) -> str | None:
    """Return what is wrong with the canary, if anything is."""
    if canary is None or not canary["failing"]:
        return None
    sent = format_duration(canary["age_s"], roughly=True)
    return f"canary sent {sent} ago has not come back: {canary['place']}"


def line(canary: dict[str, Any], now: datetime.datetime) -> str:
    """Return the canary as a line of text."""
    every = f"every {format_duration(canary['every_s'])}"
    if canary["failures"]:
        every += f", {canary['failures']} failures"
    if canary["returned_at"] is not None:
        ago = format_duration((now - canary["returned_at"]).total_seconds(), roughly=True)
        return f"canary   {format_duration(canary['seconds'])} from commit to settlement, {ago} ago; {every}"
    if canary["sent_at"] is None:
        return f"canary   none sent yet; {every}"
    ago = format_duration((now - canary["sent_at"]).total_seconds(), roughly=True)
    return f"canary   sent {ago} ago, {canary['place']}; {every}"
