"""The page of the doctor: the checks of an installation, run when the user asks."""

import threading
from itertools import groupby
from typing import Any

from pgreact.errors import PgreactError
from pgreact.web.page import Page, Query

_running = threading.Lock()  # one examination at a time: each asks all workers
_BAD = ("fail", "warn", "unknown", "ok")  # verdicts, the worst first


def _examination(request: Query) -> dict[str, Any] | None:
    """Return the findings by area, or nothing: the page shows a button first."""
    if "run" not in request.params:
        return None
    from pgreact.doctor import examine  # imports Celery, which the other pages do without

    if not _running.acquire(blocking=False):
        raise PgreactError("another examination runs: load this page again in some seconds")
    try:
        results = examine(request.settings)
    finally:
        _running.release()
    counts = {verdict: sum(result.verdict == verdict for result in results) for verdict in _BAD}
    areas = [
        (area, sorted(found, key=lambda result: _BAD.index(result.verdict)))
        for area, found in groupby(results, key=lambda result: result.area)
    ]
    return {"areas": areas, "counts": counts}


DOCTOR = Page("doctor", "Doctor", {}, work={"examination": _examination}, live=False)
