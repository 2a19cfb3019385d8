"""The note on what an action did: kept in a cookie until the next page shows it."""

import json
from typing import NamedTuple
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import Response

from pgreact.web import csrf

_COOKIE = "pgreact_note"
_LONGEST = 1000  # characters


class Note(NamedTuple):
    """A note: ``done`` or ``failed``, and a text."""

    kind: str
    text: str


def keep(request: Request, response: Response, note: Note) -> None:
    """Keep a note for the page that the response leads to."""
    text = quote(json.dumps([note.kind, note.text[:_LONGEST]]), safe="")
    csrf.keep(request, response, _COOKIE, text, max_age=60)


def take(request: Request, response: Response | None = None) -> Note | None:
    """Return the note of a request, if any.

    Args:
        request: The request.
        response: The page that shows it: the browser then drops the note. An update of the page before, which
            may overtake it, does not.
    """
    text = request.cookies.get(_COOKIE)
    if text is None:
        return None
    if response is not None and not request.headers.get("hx-request"):
        csrf.drop(request, response, _COOKIE)
    try:
        kind, words = json.loads(unquote(text))
    except (ValueError, TypeError, RecursionError):
        return None
    return Note(kind if kind == "done" else "failed", str(words)[:_LONGEST])
