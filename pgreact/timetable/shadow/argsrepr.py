"""Compare Celery's ``argsrepr`` and ``kwargsrepr`` with values.

``celery.utils.saferepr`` writes about what ``repr`` does, but escapes only quotes in strings, writes
``[...]`` for deep nesting, and ``...`` for the rest after 1024 characters. So the text cannot be parsed back.
Instead, each part of the expected value decides how the text may go on.
"""

import ast
import contextlib
import datetime
import decimal
import re
import uuid
import zoneinfo
from collections.abc import Mapping
from typing import Any

_LEFT_OUT = re.compile(r"(?:, )?\.\.\.(?:,?[)\]}])*$")
_CUT_KEY = re.compile(r"'(.*?)\.\.\.'(?:: )?(?:, \.\.\.)?(?:,?[)\]}])*$", re.DOTALL)
_DEEP = re.compile(r"\[\.\.\.\]|\(\.\.\.,?\)|\{\.\.\.\}")
_WORD = re.compile(r"[-+\w.]+")
_STRING = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""", re.DOTALL)
_KEYS = {"null": "None", "true": "True", "false": "False"}  # as JSON writes them
_CLOSING = {")": "(", "]": "[", "}": "{", ">": "<"}
# the reprs of pytz's and dateutil's zones as Python expressions
_PYTZ = (
    (re.compile(r"<UTC>|tzutc\(\)"), "datetime.timezone.utc"),
    (
        re.compile(r"<DstTzInfo '[^']*' \S*?([+-]\d+):(\d\d):\d\d \w+>"),
        r"datetime.timezone(datetime.timedelta(hours=\1, minutes=\2))",
    ),
    (
        re.compile(r"<StaticTzInfo '([^']*)'>|tzfile\('[^']*?zoneinfo/([^']*)'\)"),
        r"zoneinfo.ZoneInfo('\1\2')",
    ),
)
_CALLS = {
    "datetime.datetime": datetime.datetime,
    "datetime.date": datetime.date,
    "datetime.time": datetime.time,
    "datetime.timedelta": datetime.timedelta,
    "datetime.timezone": datetime.timezone,
    "Decimal": decimal.Decimal,
    "UUID": uuid.UUID,
    "zoneinfo.ZoneInfo": zoneinfo.ZoneInfo,
}


class _Differs(Exception):
    """The text shows another value."""


class _Cut(Exception):
    """The text shows the value as far as it goes; the rest was left out."""


def may_show(text: str, value: object) -> bool:
    """Return whether a text may show a value.

    Lists and tuples are equal, as in JSON; the order of keys does not matter. What the text leaves out, and
    the repr of an object that JSON does not have, match any value.

    Args:
        text: Of the event.
        value: As Celery decodes its JSON.
    """
    try:
        return _value(text, 0, value) == len(text)
    except _Differs:
        return False
    except _Cut:
        return True


def _value(text: str, at: int, value: object) -> int:
    """Return where the text of a value ends, which begins at ``at``.

    Raises:
        _Differs: The text shows another value.
        _Cut: The text is left out, or ends before it is complete.
    """
    if _LEFT_OUT.match(text, at):
        raise _Cut
    start = text[at : at + 1]
    if start in {"<", "_"} or start.isalpha():
        return _token(text, at, value)
    if isinstance(value, str):
        return _text(text, at, value)
    if isinstance(value, list | tuple):
        return _list(text, at, value)
    if isinstance(value, Mapping):
        return _dict(text, at, value)
    return _token(text, at, value)


def _text(text: str, at: int, value: str, quote: str = "'") -> int:
    shown = _escaped(value)
    begin = at + len(quote)
    if not text.startswith(quote, at):
        return _literal(text, at, value)
    if text.startswith(f"{shown}'", begin):
        return begin + len(shown) + 1
    end = text.find("...'", begin)
    while end >= 0 and shown.startswith(text[begin:end]):
        if len(shown) > end - begin:
            return end + 4  # the string was cut, and the text may go on
        end = text.find("...'", end + 1)
    return _literal(text, at, value)


def _escaped(text: str) -> str:
    return text.replace("'", "\\'")


def _literal(text: str, at: int, value: str) -> int:
    """Compare a Python string literal: Celery shows lazy strings by their ``repr``."""
    found = _STRING.match(text, at)
    if found and _evaluated(found[0]) == value:
        return found.end()
    raise _Differs


def _list(text: str, at: int, value: "list[Any] | tuple[Any, ...]") -> int:
    if not text.startswith(("[", "("), at):
        raise _Differs
    closing = "]" if text[at] == "[" else ")"
    if deep := _DEEP.match(text, at):
        return deep.end()
    at += 1
    for place, item in enumerate(value):
        at = _value(text, _expect(text, at, ", ") if place else at, item)
    if closing == ")" and len(value) == 1:
        return _expect(text, at, ",)")
    return _expect(text, at, closing)


def _dict(text: str, at: int, value: Mapping[Any, Any]) -> int:
    if not text.startswith("{", at):
        raise _Differs
    if deep := _DEEP.match(text, at):
        return deep.end()
    at += 1
    left = {str(key): item for key, item in value.items()}
    while left:
        if len(left) < len(value):
            at = _expect(text, at, ", ")
        key, at = _key(text, at, left)
        at = _value(text, at, left.pop(key))
    return _expect(text, at, "}")


def _key(text: str, at: int, keys: Mapping[str, Any]) -> tuple[str, int]:
    if _LEFT_OUT.match(text, at):
        raise _Cut
    for key in keys:
        for shown in (f"'{_escaped(key)}'", repr(key), _KEYS.get(key, key)):
            if text.startswith(f"{shown}: ", at):
                return key, at + len(shown) + 2
            if text.startswith(shown, at) and _LEFT_OUT.match(text, at + len(shown)):
                raise _Cut
    # a key that was cut is the last one shown
    if (cut := _CUT_KEY.match(text, at)) and any(_escaped(key).startswith(cut[1]) for key in keys):
        raise _Cut
    raise _Differs


def _expect(text: str, at: int, what: str) -> int:
    if text.startswith(what, at) and not (what == ", " and _LEFT_OUT.match(text, at)):
        return at + len(what)
    if _LEFT_OUT.match(text, at) or (at >= len(text) and "..." in text):
        raise _Cut
    raise _Differs


def _token(text: str, at: int, value: object) -> int:
    """Compare what is neither string nor container: a number, a date, an object."""
    if isinstance(value, bytes):
        try:
            shown = value.decode()
        except UnicodeDecodeError:
            shown = value.hex()
        if text.startswith(f"b'{shown}'", at):
            return at + len(shown) + 3
        return _text(text, at, shown, "b'")
    end = _end(text, at)
    token = text[at:end]
    if "..." in token:
        raise _Cut
    if not token:
        raise _Differs
    try:
        shown_value = _evaluated(token)
    except ValueError:
        if _WORD.fullmatch(token) and not token[0].isalpha():
            raise _Differs from None
        return end  # the repr of an object of the application
    if isinstance(value, decimal.Decimal) and type(shown_value) in {int, float}:
        shown_value = decimal.Decimal(token)  # earlier Celery showed decimals as numbers
    if isinstance(shown_value, bool) != isinstance(value, bool) or not _plain(shown_value) == _plain(value):
        raise _Differs
    return end


def _plain(value: object) -> object:
    # a local time in a gap equals no time of another zone
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        with contextlib.suppress(OverflowError):
            return value.astimezone(datetime.UTC)
    return value


def _end(text: str, at: int) -> int:
    """Return where a token ends: at a separator or closing bracket outside its own brackets and quotes."""
    opened: list[str] = []
    while at < len(text):
        char = text[at]
        if char in "'\"" and (quoted := _STRING.match(text, at)):
            at = quoted.end()
            continue
        if char in "([{<":
            opened.append(char)
        elif opened and _CLOSING.get(char) == opened[-1]:
            opened.pop()
        elif not opened and char in ",)]}":
            break
        at += 1
    return at


def _evaluated(token: str) -> object:
    """Return the value of a literal, or of a call in ``_CALLS``.

    Raises:
        ValueError: It is neither.
    """
    for pattern, name in _PYTZ:
        token = pattern.sub(name, token)
    try:
        return _node(ast.parse(token.strip(), mode="eval").body)
    except (
        SyntaxError,
        TypeError,
        ValueError,
        ArithmeticError,
        RecursionError,
        MemoryError,
        KeyError,
    ) as error:
        raise ValueError(token) from error


def _node(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        call = _CALLS[ast.unparse(node.func)]
        return call(*map(_node, node.args), **{str(word.arg): _node(word.value) for word in node.keywords})
    if isinstance(node, ast.Attribute) and ast.unparse(node) == "datetime.timezone.utc":
        return datetime.UTC
    return ast.literal_eval(node)
