"""Run the checks: each alone, none for ever, none ends another."""

import time
from collections.abc import Callable, Collection, Iterator

import psycopg

from pgreact.doctor import celery, clock, connection, queue, storage, timetable, wakeup
from pgreact.doctor import settings as configuration
from pgreact.doctor.checks import CHECKS, CannotSee, Check, Finding
from pgreact.doctor.facts import Facts
from pgreact.doctor.result import Result, Verdict
from pgreact.errors import ConfigError, PgreactError, nearest
from pgreact.settings import Settings

# their import registers the checks, which run in this order
AREAS = (configuration, connection, wakeup, storage, celery, clock, queue, timetable)
_ORDER = [module.__name__.rpartition(".")[2] for module in AREAS]
LIMIT = 20.0  # seconds after which no further check begins
MOST = 10  # findings of one check that are shown

Progress = Callable[[int, int, str], None]


def examine(
    settings: Settings,
    *,
    offline: bool = False,
    only: Collection[str] = (),
    progress: Progress = lambda _done, _all, _id: None,
) -> list[Result]:
    """Run checks.

    Args:
        settings: The configuration.
        offline: Only the checks that need no server.
        only: Ids of checks, or areas; empty: all.
        progress: Called before each check with the number of those done, that of all, and its id.

    Returns:
        One result for each check that found nothing, and one for each finding, in the order of the checks. A
        check that fails is ``unknown``; the others run.

    Raises:
        ConfigError: ``only`` names no check, or one that does not run offline.
    """
    chosen = selected(only, offline=offline)
    began = time.monotonic()
    results: list[Result] = []
    with Facts(settings) as facts:
        if any(check.asks_workers for check in chosen):
            facts.ask_workers()
        for number, check in enumerate(chosen):
            progress(number, len(chosen), check.id)
            if time.monotonic() - began > LIMIT:
                findings = [Finding(Verdict.UNKNOWN, "not looked at: the checks before took too long", "")]
            else:
                findings = _run(check, facts)
            results += _results(check, findings)
    return results


def selected(only: Collection[str], *, offline: bool = False) -> list[Check]:
    """Return the checks of these ids or areas; empty: all.

    Args:
        only: Ids of checks, or areas.
        offline: Only the checks that need no server.

    Raises:
        ConfigError: One of them is unknown, or has no check that runs offline.
    """
    known = [*dict.fromkeys(check.area for check in CHECKS.values()), *CHECKS]
    for name in only:
        if name not in known:
            raise ConfigError(f'no check "{name}"{nearest(name, known)}')
    able = {name for check in CHECKS.values() if check.offline for name in (check.id, check.area)}
    if offline and (unable := [name for name in only if name not in able]):
        which = "none of these checks runs" if len(unable) == len(only) else "these checks do not run"
        raise ConfigError(f"{which} offline: {', '.join(unable)}")
    ordered = sorted(CHECKS.values(), key=lambda check: _ORDER.index(check.area))
    return [
        check
        for check in ordered
        if (check.offline or not offline) and (not only or {check.id, check.area} & {*only})
    ]


def _run(check: Check, facts: Facts) -> list[Finding]:
    found: list[Finding] = []
    try:
        with facts.limited():
            found.extend(check.examine(facts))
    except Exception as error:  # noqa: BLE001 - a check that fails must not stop the others
        found.append(_unknown(error, facts))
    return found


def _unknown(error: Exception, facts: Facts) -> Finding:
    match error:
        case CannotSee():
            return Finding(Verdict.UNKNOWN, f"cannot see: {error}", error.remedy)
        case psycopg.errors.InsufficientPrivilege():
            return Finding(
                Verdict.UNKNOWN, f"cannot see: {error.diag.message_primary}", facts.monitor_remedy()
            )
        case psycopg.errors.QueryCanceled():
            return Finding(Verdict.UNKNOWN, "cannot see: PostgreSQL took too long to answer", "")
        case PgreactError():
            return Finding(Verdict.UNKNOWN, f"cannot see: {error}", "")
    lines = str(error).strip().splitlines()
    return Finding(Verdict.UNKNOWN, f"the check failed: {type(error).__name__}: {' '.join(lines[:1])}", "")


def _results(check: Check, findings: list[Finding]) -> Iterator[Result]:
    if not findings:
        yield Result(check.id, check.area, check.looked_at, Verdict.OK, "", "")
    more = len(findings) - MOST
    for number, finding in enumerate(findings[:MOST]):
        text = finding.text + (f" (and {more} more like it)" if more > 0 and number == MOST - 1 else "")
        yield Result(check.id, check.area, check.looked_at, finding.verdict, text, finding.remedy)
