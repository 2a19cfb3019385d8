"""The command ``pgreact doctor``."""

import dataclasses
import json
import sys
import textwrap
from typing import TYPE_CHECKING

import click

from pgreact.cli.support import echo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pgreact.doctor.result import Result
    from pgreact.settings import Settings

_WIDTH = 7  # of a verdict


@click.command()
@click.argument("checks", metavar="[CHECK]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--offline", is_flag=True, help="Only what needs no server.")
@click.option("--list", "as_list", is_flag=True, help="List the checks, and run none.")
@click.pass_obj
def doctor(
    load: "Callable[[], Settings]", checks: tuple[str, ...], as_json: bool, offline: bool, as_list: bool
) -> None:
    """Check an installation, and say how to mend it.

    Looks at the configuration, PostgreSQL, triggers, daemons, vacuum, broker, workers, clocks, queue and
    timetable, and changes nothing. CHECK is the id of a check, or an area like "celery"; default: all. It
    ends within a minute whatever hangs.

    Exits with 0 if all is well, 1 with a warning or something that it cannot see, 2 with a failure. What is
    not seen counts as a warning: grant pg_monitor to the role.

    \b
    Example:
      pgreact -A proj doctor
      pgreact doctor wakeup storage.xmin
    """
    from pgreact.doctor.examination import examine, selected
    from pgreact.doctor.result import exit_code

    if as_list:
        chosen = selected(checks, offline=offline)
        if as_json:
            echo(json.dumps([{"id": check.id, "looked_at": check.looked_at} for check in chosen], indent=2))
            return
        width = max(len(check.id) for check in chosen)
        for check in chosen:
            echo(f"{check.id:<{width}}  {check.looked_at}")
        return
    results = examine(
        load(), offline=offline, only=checks, progress=_progress if _on_terminal() else _no_progress
    )
    if _on_terminal():
        click.echo("\r\x1b[K", nl=False, err=True)
    if as_json:
        echo(json.dumps([dataclasses.asdict(result) for result in results], indent=2))
    else:
        for line in lines(results):
            echo(line)
    sys.exit(exit_code(results))


def lines(results: "Iterable[Result]") -> "Iterator[str]":
    """Return the results as lines of text: what is in order first, the worst at the end."""
    from pgreact.doctor.result import Verdict

    ordered = sorted(results, key=lambda result: list(Verdict).index(result.verdict))
    width = max((len(result.id) for result in ordered), default=0)
    indent = " " * (_WIDTH + width + 4)
    for result in ordered:
        text = result.finding or result.looked_at
        # an identifier or a path must not be broken
        wrapped = textwrap.wrap(
            text, max(40, 110 - len(indent)), break_long_words=False, break_on_hyphens=False
        )
        yield f"{result.verdict.upper():<{_WIDTH}}  {result.id:<{width}}  {wrapped[0] if wrapped else ''}"
        yield from (f"{indent}{line}" for line in wrapped[1:])
        yield from (
            f"{indent}{'> ' if number == 0 else '  '}{line}"
            for number, line in enumerate(result.remedy.splitlines())
        )
    counts = {verdict: sum(result.verdict is verdict for result in ordered) for verdict in Verdict}
    yield ""
    yield ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)


def _on_terminal() -> bool:
    return sys.stderr.isatty()


def _no_progress(_done: int, _all: int, _check: str) -> None: ...


def _progress(done: int, total: int, check: str) -> None:
    click.echo(f"\r\x1b[K{done}/{total} {check}", nl=False, err=True)
