"""The page of one job: its columns, why it does not run, its way, its attempts."""

from typing import Any

from pgreact.errors import PgreactError
from pgreact.postgres.change import Connection, rows
from pgreact.postgres.queries import query
from pgreact.queue.job_arguments import arguments
from pgreact.queue.redaction import Redaction
from pgreact.queue.why import why
from pgreact.web.job_arguments import readable
from pgreact.web.job_way import way
from pgreact.web.page import Page, Query
from pgreact.web.pages import jobs


def _job(connection: Connection, request: Query) -> dict[str, Any]:
    number = {"job": request.path["job"]}
    redaction = Redaction(request.settings.web.redact)
    attempts = rows(connection, query("web_job_attempts"), number)
    own = next(iter(rows(connection, query("web_job"), number)), None)
    if own is None and not attempts:
        raise PgreactError(
            f"no job {request.path['job']}: none waits, is in progress or dead under this id; settled jobs "
            "stay in the history only where [queue] sets retention"
        )
    for row in (*attempts, *([own] if own else [])):
        row["error"] = redaction.error(row["task"], row["error"])
        row["way"] = way(row, request.now)
    task = (own or attempts[0])["task"]
    return {"own": own, "attempts": attempts, "task": task, "hides": redaction.hides(task)}


def _arguments(connection: Connection, request: Query) -> dict[str, Any]:
    if not readable(connection, request):
        return {"refused": jobs.NO_ARGUMENTS, "values": None}
    redaction = Redaction(request.settings.web.redact)
    return {"refused": None, "values": arguments(connection, request.path["job"], redaction)}


def _why(connection: Connection, request: Query) -> dict[str, Any]:
    found = why(connection, request.path["job"])
    Redaction(request.settings.web.redact).hide_errors(found)
    return found


JOB = Page(
    "job",
    "Job",
    {"job": _job, "why": _why, "arguments": _arguments},
    {"retry": jobs.retry, "cancel": jobs.cancel, "discard": jobs.discard},
    path="/jobs/{job:int}",
    listed=False,
)
