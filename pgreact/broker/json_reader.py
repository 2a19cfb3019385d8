"""Read a job's arguments and options from the JSON text that PostgreSQL stores."""

import json
import math
from typing import Any

MAX_DEPTH = 200  # levels of lists and objects that every worker can read; Python fails at some hundreds


class TooDeep(ValueError):
    """Lists and objects are nested deeper than every worker can read."""

    def __init__(self) -> None:
        super().__init__(f"nested more than {MAX_DEPTH} levels deep")


def read(text: str, *, marked: bool = False) -> Any:
    """Return the value of a JSON text.

    Args:
        text: As PostgreSQL prints a ``jsonb``.
        marked: Decode the dates, UUIDs and so on that Celery's JSON marks.

    Raises:
        ValueError: Python's parser refuses it, or no worker could read it: a number has too many digits or is
            beyond the range of floats, or the nesting is too deep.
        Exception: Celery's, about a marked value that it cannot decode.
    """
    check_depth(text)
    if marked and '"__type__"' in text:
        from kombu.utils.json import loads

        return loads(text, _loads=_loads)
    return _loads(text)


def check_depth(text: str) -> None:
    """Raise if JSON is nested too deep for a worker.

    Raises:
        TooDeep: It has more than :data:`MAX_DEPTH` levels.
    """
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return  # the usual case
    try:
        level = [json.loads(text)]
    except RecursionError:
        raise TooDeep from None
    for _ in range(MAX_DEPTH):
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
    return json.loads(text, parse_float=_number, **options) if options else _DECODER.decode(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]}... is beyond the range of floats")
    return value


_DECODER = json.JSONDecoder(parse_float=_number)  # json.loads would make one for each call
