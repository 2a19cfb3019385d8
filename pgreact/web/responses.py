"""Responses with a page, for routes that are more than a page with actions."""

import datetime
from collections.abc import Callable, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from pgreact.errors import PgreactError
from pgreact.queue.redaction import Redaction
from pgreact.settings import Settings
from pgreact.web import csrf, flash
from pgreact.web.database import Database, Unreachable
from pgreact.web.page import Page, Query
from pgreact.web.templates import Templates
from pgreact.web.user import user_of


class Pages:
    """The parts that such routes share, and their answers.

    Attributes:
        settings: The configuration.
        database: The sessions.
        redaction: What no page shows.
    """

    def __init__(self, settings: Settings, database: Database, templates: Templates) -> None:
        self.settings = settings
        self.database = database
        self.redaction = Redaction(settings.web.redact)
        self._templates = templates

    def query(self, request: Request) -> Query:
        """Return a request as the parts of a page get it."""
        now = datetime.datetime.now(datetime.UTC)
        return Query(request.query_params, request.path_params, user_of(request), self.settings, now)

    def show(
        self, request: Request, page: Page, template: str, context: Mapping[str, Any], status: int = 200
    ) -> Response:
        """Return a page.

        Args:
            request: The request.
            page: The page that the navigation marks as the current one.
            template: Its template.
            context: What that shows.
            status: The status.
        """
        token = csrf.token_of(request)
        query = self.query(request)
        common = {"page": page, "title": page.title, "query": query, "now": query.now, "csrf": token}
        response = HTMLResponse(self._templates.render(template, request, {**common, **context}), status)
        csrf.set_cookie(request, response, token)
        flash.take(request, response)
        return response

    async def answer(self, request: Request, page: Page, read: Callable[[], Response]) -> Response:
        """Return what a function answers, in a thread; an error becomes a page."""
        try:
            return await run_in_threadpool(read)
        except Unreachable as error:
            return self.show(request, page, "away", {"text": str(error)}, 503)
        except PgreactError as error:
            return self.show(request, page, "error", {"text": str(error)}, 422)

    async def form(self, request: Request) -> FormData:
        """Return the form of a request that acts.

        Raises:
            HTTPException: 403: the user is no operator, or the form is not ours.
        """
        user = user_of(request)
        if not user.acts:
            raise HTTPException(403, f"{user.name} has the role monitor, which changes nothing")
        csrf.check_size(request)
        async with request.form(max_files=0) as form:
            csrf.check(request, form)
            return form

    def leave(self, request: Request, path: str, note: str | None = None, kind: str = "done") -> Response:
        """Return a redirection to a path below the pages' root, which shows a note."""
        response = RedirectResponse(request.scope.get("root_path", "") + path, 303)
        if note is not None:
            flash.keep(request, response, flash.Note(kind, note))
        return response
