"""The command ``pgreact demo``."""

import signal
import sys
import time
from types import FrameType

import click

from pgreact.demo.journal import Interrupted, Journal


@click.command()
@click.option(
    "--seconds",
    default=15.0,
    show_default=True,
    metavar="N",
    type=click.FloatRange(2, 3600),
    help="Seconds during which jobs are committed.",
)
def demo(seconds: float) -> None:
    """Run a whole cluster on this machine, measure it, and remove it.

    Starts a private PostgreSQL with a broker on it, a Celery worker and two daemons; commits jobs; kills the
    leader with SIGKILL; shows the built-in queue; prints the measurements. Exits 0 if every job was done, the
    standby took over and the queue kept its promises. Needs the extra: pip install "pgreact[demo]".

    \b
    Example:
      pgreact demo --seconds 10
    """
    from pgreact.demo.play import play  # imports what other commands do not need

    journal = Journal()

    def interrupt(number: int, _frame: FrameType | None) -> None:
        # The first signal ends the next wait; the second one ends this process, and the guards clean up.
        journal.interrupt(signal.Signals(number).name)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, interrupt)
    began = time.time()
    try:
        passed = play(journal, seconds, began)
    except Interrupted as reason:
        click.echo(f"\n{reason}: stopped, all processes and files are removed")
        sys.exit(128 + signal.Signals[str(reason)])
    sys.exit(0 if passed else 1)
