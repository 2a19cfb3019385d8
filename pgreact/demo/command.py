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
    help="For how long to commit jobs.",
)
def demo(seconds: float) -> None:
    """Run a demonstration cluster on this machine, and remove it.

    Starts a private PostgreSQL that is also the broker, a Celery worker and two daemons. Commits jobs, kills
    the leader with SIGKILL halfway, shows the built-in queue, and prints measurements. Exits 0 if every job
    was done, the standby took over and the queue kept its promises. Needs: pip install "pgreact[demo]".

    \b
    Example:
      pgreact demo --seconds 10
    """
    from pgreact.demo.play import play  # with packages that only the demo needs

    journal = Journal()

    def interrupt(number: int, _frame: FrameType | None) -> None:
        # The first signal ends the next wait; a second one ends this process, and the guard cleans up.
        journal.interrupt(signal.Signals(number).name)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, interrupt)
    began = time.time()
    try:
        passed = play(journal, seconds, began)
    except Interrupted as reason:
        click.echo(f"\n{reason}: stopped; all processes and files of the demo are removed")
        sys.exit(128 + signal.Signals[str(reason)])
    sys.exit(0 if passed else 1)
