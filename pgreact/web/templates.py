"""The templates, and what each of them can use."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request

from pgreact import __version__
from pgreact.logs import printable
from pgreact.quantities import format_count, format_duration, format_rate
from pgreact.web import flash
from pgreact.web.page import Page
from pgreact.web.user import user_of


class Templates:
    """The templates of the pages.

    Args:
        pages: The pages, for the navigation.
    """

    def __init__(self, pages: Sequence[Page]) -> None:
        self._listed = [page for page in pages if page.listed]
        self._environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "duration": _duration,
            "count": format_count,
            "rate": format_rate,
            "time": _time,
            "ago": _ago,
            "text": printable,
        }

    def render(self, name: str, request: Request, context: Mapping[str, Any]) -> str:
        """Return a page; for htmx only what is inside ``main``.

        Args:
            name: The template.
            request: The request.
            context: What the template shows.
        """
        root = request.scope.get("root_path", "")
        everywhere = {
            "layout": "fragment.html" if request.headers.get("hx-request") else "layout.html",
            "root": root,
            "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
            "back": f"?{request.url.query}" if request.url.query else "",
            "listed": self._listed,
            "user": user_of(request),
            "note": flash.take(request),
            "version": __version__,
            "page": None,
            "live": "",
            "remedy": None,
            "csrf": "",
        }
        return self._environment.get_template(f"{name}.html").render({**everywhere, **context})


def _duration(seconds: float | None) -> str:
    """Return an age or a wait in whole units; short ones in milliseconds."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    return f"{seconds:.1f}s" if seconds < 10 else format_duration(seconds, roughly=True)


def _time(at: datetime.datetime | None) -> str:
    return "-" if at is None else at.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _ago(at: datetime.datetime | None, now: datetime.datetime) -> str:
    return "-" if at is None else format_duration((now - at).total_seconds(), roughly=True)
