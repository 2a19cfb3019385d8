"""The reason why PostgreSQL refused a value of a user."""

import re

import psycopg

# invalid values, constraints, limits, errors raised by functions; and names of objects that do not exist
_CLASSES = ("22", "23", "54", "P0")
_UNDEFINED = "42704"


def refusal(error: psycopg.Error) -> str | None:
    """Return why a value was refused, as one line.

    Args:
        error: The error of the statement with the value.

    Returns:
        The server's message with its hint; ``None``: the error has another cause.
    """
    state = error.sqlstate or ""
    if not (state.startswith(_CLASSES) or state == _UNDEFINED):
        return None
    message = error.diag.message_primary or str(error)
    return f"{message}; {error.diag.message_hint}" if error.diag.message_hint else message


def refusing_function(error: psycopg.Error) -> str | None:
    """Return the function of pgreact that refused a value, without its schema; ``None``: none did."""
    found = re.search(r"PL/pgSQL function pgreact\.(\w+)\(", error.diag.context or "")
    return found[1] if found else None
