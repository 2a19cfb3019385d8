"""Reads the arguments and options of a job from the JSON text that PostgreSQL stores."""

import json
import math
from typing import Any

DEEPEST = 200  # levels of lists and objects that every worker can read: Python fails at some hundreds


class TooDeep(ValueError):
    """Lists and objects are nested so deep that a worker may not be able to read them."""

    def __init__(self) -> None:
        super().__init__(f"nested more than {DEEPEST} levels deep")


def read(text: str, *, marked: bool = False) -> Any:
    """Return the value of a JSON text.

    Args:
        text: As PostgreSQL prints a ``jsonb``.
        marked: Decode the values that Celery's JSON marks as a date, a UUID and so on.

    Raises:
        ValueError: Python's parser refuses it, or no worker could read the message: a number has too many
            digits or is beyond the range of floats, or the text has too many levels.
        Exception: Whatever Celery raises about a value that its mark does not fit.
    """
    check_depth(text)
    if marked and '"__type__"' in text:
        from kombu.utils.json import loads

        return loads(text, _loads=_loads)
    return _loads(text)


def check_depth(text: str) -> None:
    """Refuse JSON that a worker may not be able to read.

    Raises:
        TooDeep: It has more than :data:`DEEPEST` levels.
    """
    if text.count("[") + text.count("{") <= DEEPEST:
        return  # the usual case
    try:
        level = [json.loads(text)]
    except RecursionError:
        raise TooDeep from None
    for _ in range(DEEPEST):
        level = [
            item
            for owner in level
            for item in (owner.values() if isinstance(owner, dict) else owner)
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise TooDeep


def _loads(text: str, **options: Any) -> Any:
    return json.loads(text, parse_float=_number, **options)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]}... is beyond the range of floats")
    return value
