"""Write Python values as JSON that PostgreSQL can store and Celery's workers decode to the same values."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from pgreact.broker.json_reader import TooDeep, check_depth

# The path to a value in a job: the path of its container, and its key or index. Formatted for errors only.
Place = str | tuple["Place", str | int]

# Options with arguments of other tasks, which a worker decodes. The publisher reads the other options.
_CALLBACKS = {"link", "link_error", "chain", "chord"}
_MAX_BITS = 13_000  # Python reads 4,300 digits
_MARKED = {"__type__", "__value__"}


def write(value: object, place: Place, *, plain: bool = False) -> str:
    """Return a value as JSON text in ASCII.

    Types beyond JSON are encoded as by Celery's serializer: ``datetime``, ``date``, ``time``, ``Decimal``,
    ``UUID``, ``bytes``, those of ``kombu.utils.json.register_type``, and objects with ``__json__``.

    Args:
        value: The value.
        place: Its path in the job, for errors.
        plain: Refuse types beyond JSON: the reader decodes nothing.

    Raises:
        TypeError: It is not JSON.
        ValueError: PostgreSQL would refuse it, or no worker could read it.
    """
    try:
        text = _write(value, place, plain)
        check_depth(text)
    except RecursionError:
        raise ValueError(f"{_shown(place)} is nested too deeply, or contains itself") from None
    except TooDeep as error:
        raise ValueError(f"{_shown(place)} is {error}") from None
    return text


def write_options(options: Mapping[str, object]) -> str:
    """Return options of ``apply_async`` as a JSON object.

    Raises:
        TypeError: One is not JSON.
        ValueError: As :func:`write`.
    """
    return join(
        {
            name: write(value, ("options", name), plain=name not in _CALLBACKS)
            for name, value in options.items()
        }
    )


def join(fields: Mapping[str, str]) -> str:
    """Return a JSON object of fields whose values are JSON text."""
    return "{" + ",".join([f"{write(name, 'options')}:{text}" for name, text in fields.items()]) + "}"


def _write(value: object, place: Place, plain: bool) -> str:
    if value is None:
        text = "null"
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str):
        text = _text(value, place)
    elif isinstance(value, int):
        text = _integer(value, place)
    elif isinstance(value, float):
        text = _number(value, place)
    elif isinstance(value, dict):
        text = _object(value, place, plain)
    elif isinstance(value, list | tuple):
        text = f"[{','.join([_write(item, (place, at), plain) for at, item in enumerate(value)])}]"
    elif plain:
        raise _not_json(value, place)
    else:
        text = _write(_encoded(value, place), place, plain)
    return text


def _text(value: str, place: Place) -> str:
    if "\0" in value:
        raise ValueError(f"{_shown(place)}: a NUL character, which PostgreSQL does not store")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = ord(value[error.start])
            raise ValueError(
                f"{_shown(place)}: half a character (U+{half:04X}), which PostgreSQL does not store"
            ) from None
    return json.dumps(value)


def _integer(value: int, place: Place) -> str:
    if value.bit_length() > _MAX_BITS:
        raise ValueError(f"{_shown(place)}: a number of more than {_MAX_BITS} bits, which no worker can read")
    return int.__repr__(value)


def _number(value: float, place: Place) -> str:
    if not math.isfinite(value):
        raise ValueError(f"{_shown(place)}: {float(value)} is not JSON")
    text = float.__repr__(value)
    # jsonb turns 1e+16 into a whole number, and the task would get an int
    return format(float(value), ".1f") if "e+" in text else text


def _object(value: Mapping[Any, Any], place: Place, plain: bool) -> str:
    parts = []
    for key, item in value.items():
        name = _key(key, place)
        parts.append(f"{_text(name, (place, name))}:{_write(item, (place, name), plain)}")
    text = f"{{{','.join(parts)}}}"
    if value.keys() == _MARKED:
        _check_marked(text, place)
    return text


def _key(key: object, place: Place) -> str:
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, bool | int | float):
        return _write(key, place, plain=True)  # as the module json does
    raise TypeError(f"{_shown(place)}: a key of type {type(key).__name__} is not JSON; keys are text")


def _encoded(value: object, place: Place) -> object:
    from kombu.utils.json import JSONEncoder

    try:
        return JSONEncoder().default(value)
    except TypeError:
        raise _not_json(value, place) from None


def _check_marked(text: str, place: Place) -> None:
    """Raise if a value looks like one that Celery encoded, but is not: a worker would reject the message."""
    from kombu.utils.json import loads

    try:
        loads(text)
    except Exception as error:
        raise ValueError(
            f'{_shown(place)}: "__type__" with "__value__" marks a value that Celery encoded, '
            f"and Celery cannot decode this one"
        ) from error


def _not_json(value: object, place: Place) -> TypeError:
    if isinstance(value, Mapping):
        hint = "make it a dict"
    elif isinstance(value, Iterable) and not isinstance(value, bytes):
        hint = "make it a list"
    else:
        hint = "pass its key, or make it text"
    return TypeError(f"{_shown(place)}: type {type(value).__name__} is not JSON; {hint}")


def _shown(place: Place) -> str:
    """Return a path as in Python: ``kwargs["users"][3]``."""
    steps = []
    while not isinstance(place, str):
        place, step = place
        steps.append(f"[{json.dumps(step)}]")
    return place + "".join(reversed(steps))
