"""The output of the demo, for a terminal or a pipe."""

import time
from collections.abc import Iterable

import click

from pgreact.demo.journal import Entry, Journal
from pgreact.demo.producer import Producer

_COLOURS = {"daemon A": "cyan", "daemon B": "magenta", "worker": "green", "producer": "yellow"}
_PALE = frozenset({"level", "event", "timestamp"})


class Screen:
    """Prints the lines of the demo; in colour only on a terminal."""

    def __init__(self, journal: Journal, began: float) -> None:
        self._journal = journal
        self._began = began
        self._warned_until = time.time()
        self._counted = (0, 0, 0, 0, 0)

    def title(self, text: str) -> None:
        """Print the title."""
        click.secho(text, bold=True)

    def heading(self, text: str) -> None:
        """Print the heading of a section."""
        click.echo()
        click.secho(text, bold=True)

    def step(self, what: str, more: str = "") -> None:
        """Print a step of the set-up and the seconds since the beginning."""
        click.echo(
            f"  {time.time() - self._began:5.1f} s  {what}" + click.style(f"  {more}" * bool(more), dim=True)
        )

    def detail(self, text: str) -> None:
        """Print a detail of the line above."""
        click.secho(f"           {text}", dim=True)

    def story(self, rows: Iterable[tuple[float, str, str]], zero: float) -> None:
        """Print actions as (time, process, text), by time, in milliseconds from ``zero``."""
        for at, process, what in sorted(rows):
            click.echo(f"  {(at - zero) * 1000:7.1f} ms  {named(process)}  {what}")

    def line(self, process: str, what: str) -> None:
        """Print an action without its time."""
        click.echo(f"  {'':10}  {named(process)}  {what}")

    def table_head(self, producer: Producer) -> None:
        """Print the head of the table of seconds."""
        if not any(self._counted):
            self._counted = self._counts(producer)
        click.secho("       s  commits   jobs  signals  calls   done  waiting", dim=True)

    def second(self, number: int, producer: Producer) -> None:
        """Print the counts of one second, then new warnings."""
        counts = self._counts(producer)
        commits, jobs, signals, called, done = (
            now - before for now, before in zip(counts, self._counted, strict=True)
        )
        self._counted = counts
        waiting = counts[1] - counts[4]
        click.echo(
            f"  {number:6d}  {commits:7d}  {jobs:5d}  {signals:7d}  {called:5d}  {done:5d}  {waiting:7d}"
        )
        self.warnings()

    def _counts(self, producer: Producer) -> tuple[int, int, int, int, int]:
        calls = self._journal.find("dispatch.published")
        return (
            len(producer.commits),
            sum(len(commit.jobs) for commit in producer.commits),
            sum(int(call.keys["signals"]) for call in calls),
            len(calls),
            len(producer.done()),
        )

    def warnings(self) -> None:
        """Print warnings and errors that are new since the last call."""
        found = self._journal.warnings(self._warned_until)
        self._warned_until = max([self._warned_until, *(entry.at + 1e-6 for entry in found)])
        for entry in found:
            click.secho(f"          {entry.source}: {described(entry)}", fg="red")


def named(process: str) -> str:
    """Return the name of a process in its colour, padded."""
    return click.style(f"{process:<10}", fg=_COLOURS.get(process))


def described(entry: Entry) -> str:
    """Return a log event's name and its meaning in the demo."""
    keys = entry.keys
    meaning = {
        "signal.received": "receives the signal of a commit",
        "dispatch.published": f"calls the dispatch task, for {_count(keys.get('signals'), 'signal')}",
        "leader.elected": "leads",
        "queue.dispatched": f"claims and publishes {_count(keys.get('claimed'), 'job')}",
        "sweep.finished": f"sweeps: {'work' if keys.get('dispatch') else 'no work'} was missed",
    }.get(entry.name)
    if meaning is None:
        meaning = " ".join(f"{key}={value}" for key, value in keys.items() if key not in _PALE)
    return f"{entry.name:<19} {meaning}".rstrip()


def _count(number: object, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
