"""The page of jobs: search, and actions on one job or on all that match."""

import dataclasses
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import FormData

from pgreact.errors import PgreactError
from pgreact.postgres.change import Connection, rows
from pgreact.postgres.event_log import log
from pgreact.postgres.queries import query
from pgreact.queue.job_arguments import excerpts
from pgreact.queue.redaction import Redaction
from pgreact.queue.views import STATES
from pgreact.web.actions import field
from pgreact.web.bulk import ACTIONS, Action
from pgreact.web.job_arguments import readable
from pgreact.web.job_filter import Filter, InvalidFilter, parse_filter
from pgreact.web.job_search import RANGE, Found, search
from pgreact.web.page import Page, Query

NO_ARGUMENTS = "the arguments of jobs are for operators alone"


@dataclasses.dataclass(frozen=True)
class Form:
    """The form of the search.

    Attributes:
        text: What its fields have.
        errors: What is wrong with them, by field.
        actions: What can be done to all that match.
        query: The fields as the query of a URL, without the place where a search continues.
    """

    text: Mapping[str, str]
    errors: Mapping[str, str]
    actions: list[Action]
    query: str
    states: tuple[str, ...] = STATES  # to choose from


@dataclasses.dataclass(frozen=True)
class Jobs:
    """The result of a search.

    Attributes:
        found: The jobs of a range.
        excerpts: The arguments of each, by id; ``None``: the user may not read them.
        next: The query of the URL where the search continues; ``None``: it has ended.
    """

    found: Found
    excerpts: Mapping[int, str] | None
    next: str | None
    range: int = RANGE


def wanted(connection: Connection, request: Query, redaction: Redaction) -> Filter:
    """Return the filter of a request.

    Raises:
        InvalidFilter: Fields are wrong, or the user may not search by them.
    """
    found = parse_filter(request.params, redaction)
    if found.arguments is not None and not readable(connection, request):
        raise InvalidFilter({"args": NO_ARGUMENTS})
    return found


def _form(connection: Connection, request: Query) -> Form:
    text = {
        name: request.params.get(name, "")
        for name in ("state", "task", "lane", "key", "error", "pattern", "args", "id")
    }
    given = {name: value for name, value in text.items() if value.strip()}
    errors: Mapping[str, str] = {}
    states: tuple[str, ...] = STATES
    try:
        found = wanted(connection, request, Redaction(request.settings.web.redact))
        states = found.states
        if found.arguments is not None:  # let PostgreSQL read the jsonpath
            with connection.transaction():
                search(connection, dataclasses.replace(found, id=0), [])
    except InvalidFilter as error:
        errors = error.fields
    actions = [action for action in ACTIONS.values() if not set(states).isdisjoint(action.states)]
    return Form(text, errors, [] if errors else actions, urlencode(given))


def _jobs(connection: Connection, request: Query) -> Jobs | None:
    redaction = Redaction(request.settings.web.redact)
    try:
        with connection.transaction():
            before = request.params.get("before", "")
            found = search(
                connection,
                wanted(connection, request, redaction),
                redaction.tasks,
                before=int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None,
            )
    except InvalidFilter:
        return None  # the form says what is wrong
    allowed = readable(connection, request)
    ids = [job["id"] for job in found.jobs]
    following = None
    if found.before is not None:
        kept = {name: value for name, value in request.params.items() if name != "before" and value.strip()}
        following = urlencode({**kept, "before": found.before})
    return Jobs(found, excerpts(connection, ids, redaction) if allowed else None, following)


def retry(connection: Connection, form: FormData) -> str:
    """Retry the job of a form."""
    job = number(form)
    if not _called(connection, "retry", job):
        raise PgreactError(f"job {job} is neither dead nor delayed any more: nothing to retry")
    log(connection, "job.retried", str(job))
    return f"retried job {job}"


def cancel(connection: Connection, form: FormData) -> str:
    """Cancel the job of a form."""
    job = number(form)
    match _called(connection, "cancel", job):
        case "cancelled":
            said = f"cancelled job {job}"
        case "started":
            said = f"job {job} runs already: it gets no further attempt"
        case _:
            raise PgreactError(f"job {job} neither waits nor runs any more: nothing to cancel")
    log(connection, "job.cancelled", str(job))
    return said


def discard(connection: Connection, form: FormData) -> str:
    """Discard the dead job of a form."""
    job = number(form)
    if not _called(connection, "discard", job):
        raise PgreactError(f"job {job} is not dead any more: nothing to discard")
    log(connection, "job.discarded", str(job))
    return f"discarded job {job}"


def number(form: FormData) -> int:
    """Return the job that a form names.

    Raises:
        PgreactError: It names none.
    """
    text = field(form, "job")
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise PgreactError(f'"{text[:40]}" is no number of a job')
    return int(text)


def _called(connection: Connection, function: str, job: int) -> Any:
    [[answer]] = connection.execute(f"select pgreact.{function}(%s)".encode(), (job,)).fetchall()
    return answer


def _lanes(connection: Connection, _request: Query) -> list[dict[str, Any]]:
    return rows(connection, query("queue_lane"))[:200]


JOBS = Page(
    "jobs",
    "Jobs",
    {"form": _form, "jobs": _jobs, "lanes": _lanes},
    {"retry": retry, "cancel": cancel, "discard": discard},
)
