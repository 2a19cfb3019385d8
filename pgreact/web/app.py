"""The ASGI application: pages, actions, live updates and static files, under any path prefix."""

import contextlib
import datetime
from collections.abc import AsyncIterator, Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from pgreact.errors import PgreactError
from pgreact.settings import Settings
from pgreact.web import csrf, flash
from pgreact.web.actions import act
from pgreact.web.auth import Authenticate, Authentication
from pgreact.web.bulk import Runs
from pgreact.web.bulk_routes import bulk_routes
from pgreact.web.database import Database, Unreachable
from pgreact.web.host import Hosts
from pgreact.web.live import Live
from pgreact.web.page import Act, Page, Query, read
from pgreact.web.pages import PAGES
from pgreact.web.responses import Pages
from pgreact.web.schedule_routes import schedule_routes
from pgreact.web.security_headers import SecurityHeaders
from pgreact.web.templates import Templates
from pgreact.web.user import user_of

Endpoint = Callable[[Request], Any]


def create_app(
    settings: Settings | str,
    *,
    auth: Authenticate,
    hosts: Sequence[str] = (),
    pages: Sequence[Page] = PAGES,
) -> Starlette:
    """Return the application. It can be mounted under any path: its links begin with ``root_path``.

    Args:
        settings: The configuration, or a DSN.
        auth: Returns the user of a request, or ``None`` to refuse it; see :mod:`pgreact.web.auth`.
        hosts: The values of ``Host`` to answer, without port; none: any.
        pages: The pages.
    """
    if isinstance(settings, str):
        settings = Settings(dsn=settings)
    database = Database(settings.dsn)
    live = Live(settings.dsn, settings.web.refresh)
    templates = Templates(pages)
    routes: list[Route | Mount] = [
        Route("/live", live, methods=["GET"]),
        Mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static"),
    ]
    for page in pages:
        routes.append(Route(page.route, _shown(page, settings, database, templates, live), methods=["GET"]))
        routes += [
            Route(f"{page.route.rstrip('/')}/{name}", _acted(perform, database), methods=["POST"])
            for name, perform in page.actions.items()
        ]

    forms, runs = Pages(settings, database, templates), Runs(database)
    routes += [*bulk_routes(forms, runs), *schedule_routes(forms)]

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        runs.close()
        live.close()
        database.close()

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        context = {"title": HTTPStatus(error.status_code).phrase, "text": error.detail}
        return HTMLResponse(templates.render("error", request, context), error.status_code, error.headers)

    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(Hosts, hosts=hosts),
            Middleware(Authentication, authenticate=auth),
        ],
        exception_handlers={HTTPException: refused},
        lifespan=lifespan,
    )
    app.state.live = live
    return app


def _shown(page: Page, settings: Settings, database: Database, templates: Templates, live: Live) -> Endpoint:
    """Return the endpoint of a page."""

    def show(request: Request) -> Response:
        params = request.query_params
        if page.work and request.headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            params = QueryParams()  # no other site starts work
        query = Query(
            params,
            request.path_params,
            user_of(request),
            settings,
            datetime.datetime.now(datetime.UTC),
        )
        status = 200
        context: dict[str, Any] = {"page": page, "title": page.title, "now": query.now, "query": query}
        context["live"] = f"live?version={live.version}" if page.live else ""
        try:
            name, parts = page.name, read(page, database, query)
            context |= parts
            context["remedy"] = next((part.remedy for part in parts.values() if part.remedy), None)
        except Unreachable as error:
            name, status = "away", 503
            context["text"] = str(error)
        except PgreactError as error:
            name, status = "error", 404
            context["text"] = str(error)
        token = csrf.token_of(request)
        response = HTMLResponse(templates.render(name, request, {**context, "csrf": token}), status)
        csrf.set_cookie(request, response, token)
        flash.take(request, response)
        return response

    async def endpoint(request: Request) -> Response:
        return await run_in_threadpool(show, request)

    return endpoint


def _acted(perform: Act, database: Database) -> Endpoint:
    """Return the endpoint of an action."""

    async def endpoint(request: Request) -> Response:
        return await act(request, perform, database)

    return endpoint
