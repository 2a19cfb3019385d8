"""The demo's lines, for a terminal or a pipe."""

import time
from collections.abc import Iterable

import click

from pgreact.demo.journal import Entry, Journal
from pgreact.demo.producer import Producer

_COLOURS = {"listener A": "cyan", "listener B": "magenta", "worker": "green", "producer": "yellow"}
_PALE = frozenset({"level", "event", "timestamp"})


class Screen:
    """Writes lines; colours vanish where there is no terminal."""

    def __init__(self, journal: Journal, began: float) -> None:
        self._journal = journal
        self._began = began
        self._told_until = time.time()
        self._counted = (0, 0, 0, 0, 0)

    def title(self, text: str) -> None:
        """Begin."""
        click.secho(text, bold=True)

    def heading(self, text: str) -> None:
        """Begin a section."""
        click.echo()
        click.secho(text, bold=True)

    def step(self, what: str, more: str = "") -> None:
        """Say what was just set up, and how many seconds after the beginning."""
        click.echo(
            f"  {time.time() - self._began:5.1f} s  {what}" + click.style(f"  {more}" * bool(more), dim=True)
        )

    def detail(self, text: str) -> None:
        """Say something that belongs to the line before."""
        click.secho(f"           {text}", dim=True)

    def story(self, rows: Iterable[tuple[float, str, str]], zero: float) -> None:
        """Tell who did what and when, in milliseconds from a moment."""
        for at, who, what in sorted(rows):
            click.echo(f"  {(at - zero) * 1000:7.1f} ms  {named(who)}  {what}")

    def line(self, who: str, what: str) -> None:
        """Tell what has no moment of its own."""
        click.echo(f"  {'':10}  {named(who)}  {what}")

    def table_head(self, producer: Producer) -> None:
        """Begin the table of seconds."""
        if not any(self._counted):
            self._counted = self._counts(producer)
        click.secho("       s  commits   jobs  signals  calls   done  waiting", dim=True)

    def second(self, number: int, producer: Producer) -> None:
        """Say what happened since the line before, and what went wrong."""
        counts = self._counts(producer)
        commits, jobs, signals, called, done = (
            now - before for now, before in zip(counts, self._counted, strict=True)
        )
        self._counted = counts
        waiting = counts[1] - counts[4]
        click.echo(
            f"  {number:6d}  {commits:7d}  {jobs:5d}  {signals:7d}  {called:5d}  {done:5d}  {waiting:7d}"
        )
        self.troubles()

    def _counts(self, producer: Producer) -> tuple[int, int, int, int, int]:
        calls = self._journal.find("dispatch.published")
        return (
            len(producer.commits),
            sum(len(commit.jobs) for commit in producer.commits),
            sum(int(call.keys["signals"]) for call in calls),
            len(calls),
            len(producer.done()),
        )

    def troubles(self) -> None:
        """Show warnings and errors that were not shown yet."""
        found = self._journal.troubles(self._told_until)
        self._told_until = max([self._told_until, *(entry.at + 1e-6 for entry in found)])
        for entry in found:
            click.secho(f"          {entry.who}: {said(entry)}", fg="red")


def named(who: str) -> str:
    """Return a name in its colour, padded."""
    return click.style(f"{who:<10}", fg=_COLOURS.get(who))


def said(entry: Entry) -> str:
    """Return a log event with what it means here."""
    keys = entry.keys
    meaning = {
        "signal.received": "hears a commit",
        "dispatch.published": f"calls the dispatcher, for {_count(keys.get('signals'), 'signal')}",
        "leader.elected": "leads from now on",
        "queue.dispatched": f"claims {_count(keys.get('claimed'), 'job')}, and sends it to the worker",
        "sweep.finished": f"looks for work: there is {'some' if keys.get('dispatch') else 'none'}",
    }.get(entry.name)
    if meaning is None:
        meaning = " ".join(f"{key}={value}" for key, value in keys.items() if key not in _PALE)
    return f"{entry.name:<19} {meaning}".rstrip()


def _count(number: object, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
