"""Actions of operators: one transaction each, with the user as the actor of the event log."""

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pgreact.errors import ConfigError, PgreactError
from pgreact.web import csrf, flash
from pgreact.web.database import Database
from pgreact.web.page import Act
from pgreact.web.user import user_of


async def act(request: Request, perform: Act, database: Database) -> Response:
    """Perform an action, and return to its page, which shows what was done or why not.

    Args:
        request: The form's request, at a URL below the page's.
        perform: The action.
        database: The sessions.

    Raises:
        HTTPException: 403: the user is no operator, or the form is not ours. 413: the form is too large.
    """
    user = user_of(request)
    if not user.acts:
        raise HTTPException(403, f"{user.name} has the role monitor, which changes nothing")
    csrf.check_size(request)
    async with request.form(max_files=0) as form:
        csrf.check(request, form)

        def transaction() -> str:
            with database.acting(user.name) as connection:
                return perform(connection, form)

        try:
            note = flash.Note("done", await run_in_threadpool(transaction))
        except PgreactError as error:
            note = flash.Note("failed", str(error))
    back = form.get("back")
    query = back if isinstance(back, str) and back.startswith("?") else ""
    response = RedirectResponse(request.url.path.rpartition("/")[0] + query, 303)
    flash.keep(request, response, note)
    return response


def field(form: FormData, name: str) -> str:
    """Return a field of a form.

    Raises:
        ConfigError: The form lacks it.
    """
    value = form.get(name)
    if not isinstance(value, str):
        raise ConfigError(f"the form has no {name}")
    return value.replace("\0", "")
