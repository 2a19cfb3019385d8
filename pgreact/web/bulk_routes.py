"""The routes of actions on many jobs: preview, confirmation, progress."""

from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pgreact.errors import PgreactError
from pgreact.web.bulk import ACTIONS, Action, Runs, preview
from pgreact.web.job_arguments import readable
from pgreact.web.job_filter import InvalidFilter, parse_filter
from pgreact.web.page import Page
from pgreact.web.pages.jobs import JOBS, NO_ARGUMENTS, wanted
from pgreact.web.responses import Pages
from pgreact.web.user import user_of

# the same page in the navigation, without live updates
_STILL = Page(JOBS.name, JOBS.title, {}, live=False)


def bulk_routes(pages: Pages, runs: Runs) -> list[Route]:
    """Return the routes: ``/bulk/ACTION`` shows the preview and starts a run, ``/bulk/runs/N`` shows it."""

    async def show_preview(request: Request) -> Response:
        action = _action(request)
        if not user_of(request).acts:
            raise HTTPException(403, f"{user_of(request).name} has the role monitor, which changes nothing")

        def read() -> Response:
            with pages.database.reading() as connection:
                chosen = wanted(connection, pages.query(request), pages.redaction)
                found = preview(connection, action, chosen, pages.redaction.tasks)
            return pages.show(
                request,
                _STILL,
                "bulk",
                {"preview": found, "again": urlencode(chosen.text), "title": action.verb},
            )

        return await pages.answer(request, _STILL, read)

    async def start(request: Request) -> Response:
        action = _action(request)
        form = await pages.form(request)
        texts = {name: value for name, value in form.items() if isinstance(value, str)}

        def run() -> Response:
            chosen = parse_filter(texts, pages.redaction)
            if chosen.up_to is None or chosen.until is None:
                raise PgreactError("the form has no end of the ids: search again, and confirm what is shown")
            if chosen.arguments is not None:
                with pages.database.reading() as connection:
                    if not readable(connection, pages.query(request)):
                        raise InvalidFilter({"args": NO_ARGUMENTS})
            states = tuple(state for state in chosen.states if state in action.states)
            count = texts.get("count", "")
            started = runs.start(
                action,
                chosen.only(states),
                pages.redaction.tasks,
                int(count) if count.isdigit() and len(count) < 10 else 0,
                user_of(request).name,
            )
            return pages.leave(request, f"/bulk/runs/{started.id}")

        return await pages.answer(request, _STILL, run)

    async def progress(request: Request) -> Response:
        run = runs.get(request.path_params["number"])
        if run is None:
            raise HTTPException(404, "no such action of this process; the events have what was done")
        return pages.show(request, _STILL, "run", {"run": run, "title": run.action.verb})

    return [
        Route("/bulk/runs/{number:int}", progress, methods=["GET"]),
        Route("/bulk/{action}", show_preview, methods=["GET"]),
        Route("/bulk/{action}", start, methods=["POST"]),
    ]


def _action(request: Request) -> Action:
    action = ACTIONS.get(request.path_params["action"])
    if action is None:
        raise HTTPException(404, f"no such action; there are: {', '.join(ACTIONS)}")
    return action
