"""Paths into the arguments of a job, like ``user.id``, ``kwargs.user.id`` or ``args.0``; and jsonpath."""

import dataclasses
import json
import re

Path = tuple[str, ...]  # begins with "args", "kwargs" or "options"

_SECTIONS = ("args", "kwargs", "options")
_SEGMENT = re.compile(r'"(?:[^"\\]|\\.)*"|[^".:\s][^".:]*')
_JSONPATH = re.compile(r"[$(!]|(?:exists|strict|lax)\b\s*[$(]")
_EXAMPLES = 'write "args.user.id:1", "args.0:paid" or a jsonpath like "$.kwargs.amount > 100"'


@dataclasses.dataclass(frozen=True)
class ArgumentSearch:
    """A search in the arguments of jobs.

    Attributes:
        jsonpath: For PostgreSQL, on a document with ``args`` and ``kwargs``.
        path: Where it looks; ``None``: a jsonpath of the user's, which may look anywhere.
    """

    jsonpath: str
    path: Path | None


def parse_search(text: str) -> ArgumentSearch:
    """Read a search in arguments: ``PATH:VALUE``, ``PATH`` alone (has such an argument), or a jsonpath.

    A value is JSON, or else a text; a number also finds the text of its digits.

    Raises:
        ValueError: The text is neither; the message says what to write.
    """
    text = text.strip()
    if _JSONPATH.match(text):
        return ArgumentSearch(text, None)
    path, rest = _segments(text)
    if path[0] == "options":
        raise ValueError(f"options are not searched: {_EXAMPLES}")
    steps = "".join(_step(path, place) for place in range(1, len(path)))
    found = f"$.{path[0]}{steps}"
    if rest is None:
        return ArgumentSearch(found, path)
    return ArgumentSearch(f"{found} ? ({' || '.join(f'@ == {value}' for value in _values(rest))})", path)


def parse_path(text: str) -> Path:
    """Read a path: of a keyword argument (``user.email``) or of a positional one (``0``).

    Returns:
        ``args``, ``kwargs`` or ``options``, and the names and indices beneath.

    Raises:
        ValueError: The text is no path.
    """
    path, rest = _segments(text)
    if rest is not None:
        raise ValueError(f'"{text}" is no path: write it like "user.email", "0" or "options.shadow"')
    return path


def _segments(text: str) -> tuple[Path, str | None]:
    names, place = [], 0
    while found := _SEGMENT.match(text, place):
        try:
            names.append(str(json.loads(found[0])) if found[0].startswith('"') else found[0].strip())
        except ValueError:
            break
        place = found.end()
        if text[place : place + 1] != ".":
            break
        place += 1
    rest = text[place:]
    if not names or text[place - 1] == "." or (rest and not rest.startswith(":")):
        raise ValueError(f'"{text}" is no path with a value: {_EXAMPLES}')
    if names[0] == "args" and len(names) > 1 and not names[1].isdigit():
        names[0] = "kwargs"  # the argument of this name
    elif names[0] not in _SECTIONS:
        names.insert(0, "args" if names[0].isdigit() else "kwargs")
    if names[0] == "args" and len(names) > 1:
        names[1] = str(int(names[1]))  # "00" is the first argument, too
    if len(names) == 1 and rest:
        raise ValueError(f'"{text}" names no argument: {_EXAMPLES}')
    return tuple(names), rest[1:].strip() if rest else None


def _step(path: Path, place: int) -> str:
    if path[place].isdigit() and (path[0] == "args" or place > 1):
        return f"[{int(path[place]) if len(path[place]) < 10 else 2**31 - 1}]"
    return f".{_quoted(path[place])}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _values(text: str) -> list[str]:
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return [_quoted(text)]
    if isinstance(value, dict | list):
        raise ValueError(  # noqa: TRY004 - of what the user typed
            f"{text} is not a single value: search one inside it, as in args.user.id:1, or write a jsonpath"
        )
    if isinstance(value, str) or value is None:
        return [_quoted(value) if isinstance(value, str) else "null"]
    return [text, _quoted(text)]


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is no JSON")
