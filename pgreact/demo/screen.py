"""The output of the demo."""

import time
from collections.abc import Iterable

import click

from pgreact.demo.journal import Entry, Journal
from pgreact.demo.producer import Producer

_COLOURS = {"listener A": "cyan", "listener B": "magenta", "worker": "green", "producer": "yellow"}
_PALE = frozenset({"level", "event", "timestamp"})


class Screen:
    """Write lines, with colours if the output is a terminal."""

    def __init__(self, journal: Journal, began: float) -> None:
        self._journal = journal
        self._began = began
        self._shown_until = time.time()
        self._counted = (0, 0, 0, 0, 0)

    def title(self, text: str) -> None:
        """Write the title."""
        click.secho(text, bold=True)

    def heading(self, text: str) -> None:
        """Write the heading of a section."""
        click.echo()
        click.secho(text, bold=True)

    def step(self, what: str, more: str = "") -> None:
        """Write a step of the set-up, with the seconds since the start."""
        click.echo(
            f"  {time.time() - self._began:5.1f} s  {what}" + click.style(f"  {more}" * bool(more), dim=True)
        )

    def detail(self, text: str) -> None:
        """Write a line that belongs to the one before."""
        click.secho(f"           {text}", dim=True)

    def story(self, rows: Iterable[tuple[float, str, str]], zero: float) -> None:
        """Write what processes did, with milliseconds since ``zero``; rows are of time, process and text."""
        for at, source, what in sorted(rows):
            click.echo(f"  {(at - zero) * 1000:7.1f} ms  {coloured(source)}  {what}")

    def line(self, source: str, what: str) -> None:
        """Write what a process does, without a time."""
        click.echo(f"  {'':10}  {coloured(source)}  {what}")

    def table_head(self, producer: Producer) -> None:
        """Write the head of the table of seconds."""
        if not any(self._counted):
            self._counted = self._counts(producer)
        click.secho("       s  commits   jobs  signals  calls   done  waiting", dim=True)

    def second(self, number: int, producer: Producer) -> None:
        """Write what happened since the line before, and the warnings and errors."""
        counts = self._counts(producer)
        commits, jobs, signals, called, done = (
            now - before for now, before in zip(counts, self._counted, strict=True)
        )
        self._counted = counts
        waiting = counts[1] - counts[4]
        click.echo(
            f"  {number:6d}  {commits:7d}  {jobs:5d}  {signals:7d}  {called:5d}  {done:5d}  {waiting:7d}"
        )
        self.problems()

    def _counts(self, producer: Producer) -> tuple[int, int, int, int, int]:
        calls = self._journal.find("dispatch.published")
        return (
            len(producer.commits),
            sum(len(commit.jobs) for commit in producer.commits),
            sum(int(call.keys["signals"]) for call in calls),
            len(calls),
            len(producer.done()),
        )

    def problems(self) -> None:
        """Write the warnings and errors since the last call."""
        found = self._journal.problems(self._shown_until)
        self._shown_until = max([self._shown_until, *(entry.at + 1e-6 for entry in found)])
        for entry in found:
            click.secho(f"          {entry.source}: {described(entry)}", fg="red")


def coloured(source: str) -> str:
    """Return the name of a process, padded and in its colour."""
    return click.style(f"{source:<10}", fg=_COLOURS.get(source))


def described(entry: Entry) -> str:
    """Return the name of an event, and its meaning in the demo."""
    keys = entry.keys
    meaning = {
        "signal.received": "receives the signal of a commit",
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
