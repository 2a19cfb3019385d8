"""What PostgreSQL has against a value that somebody wrote."""

import psycopg

# values that are none, constraints, limits, what a trigger raises, and what is named but not there
_CLASSES = ("22", "23", "54", "P0")
_UNDEFINED = "42704"


def refusal(error: psycopg.Error) -> str | None:
    """Return why a value was refused, as one line.

    Args:
        error: Of the statement that brought the value.

    Returns:
        The server's message with its hint; ``None`` if something else went wrong.
    """
    state = error.sqlstate or ""
    if not (state.startswith(_CLASSES) or state == _UNDEFINED):
        return None
    said = error.diag.message_primary or str(error)
    return f"{said}; {error.diag.message_hint}" if error.diag.message_hint else said
