"""The command ``pgreact demo``."""

import signal
import sys
import time
from types import FrameType

import click

from pgreact.demo.journal import Interrupted, Journal

SECONDS = 15.0
ENTRIES = 2000  # of the journal, in a demo that does not end by itself


@click.command()
@click.option(
    "--seconds",
    metavar="N",
    type=click.FloatRange(2, 3600),
    help="Seconds during which jobs are committed; default: 15.",
)
@click.option("--web", is_flag=True, help="Keep a shop under load and show its pages, until Ctrl-C.")
def demo(seconds: float | None, web: bool) -> None:
    """Run a whole cluster on this machine, measure it, and remove it.

    Starts a private PostgreSQL with a broker on it, a Celery worker and two daemons; commits jobs; kills the
    leader with SIGKILL; shows the built-in queue; prints the measurements. Exits 0 if every job was done, the
    standby took over and the queue kept its promises. Needs the extra: pip install "pgreact[demo]".

    With --web it prints the address of the pages of another cluster, whose load shows all of them, and runs
    until Ctrl-C. Needs both extras: pip install "pgreact[demo,web]".

    \b
    Example:
      pgreact demo --seconds 10
      pgreact demo --web
    """
    # these import what other commands do not need
    from pgreact.demo.play import play
    from pgreact.demo.showcase import showcase

    if web and seconds is not None:
        raise click.UsageError("--seconds does not go with --web, which runs until Ctrl-C")
    journal = Journal(ENTRIES if web else None)

    def interrupt(number: int, _frame: FrameType | None) -> None:
        # The first signal ends the next wait; the second one ends this process, and the guards clean up.
        journal.interrupt(signal.Signals(number).name)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, interrupt)
    began = time.time()
    try:
        if web:
            showcase(journal)
        passed = play(journal, SECONDS if seconds is None else seconds, began)
    except Interrupted as reason:
        click.echo(f"\n{reason}: stopped, all processes and files are removed")
        sys.exit(0 if web else 128 + signal.Signals[str(reason)])
    sys.exit(0 if passed else 1)
