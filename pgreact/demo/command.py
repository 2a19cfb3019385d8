"""``pgreact demo``."""

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
    help="How long jobs are committed.",
)
def demo(seconds: float) -> None:
    """Show it on real parts, on this machine, gone at the end.

    Starts a private PostgreSQL with a broker on it, a Celery worker and two listeners, commits jobs, kills
    the leader with SIGKILL in the middle, shows the built-in queue, and says what it measured. Exits 0 if
    every job was done, the standby took over and the queue kept its promises. Needs the extra: pip install
    "pgreact[demo]".

    \b
    Example:
      pgreact demo --seconds 10
    """
    from pgreact.demo.play import play  # only the demo should pay for what the demo needs

    journal = Journal()

    def interrupt(number: int, _frame: FrameType | None) -> None:
        # At the next place where it waits; the second time at once, and the guards tidy up.
        journal.interrupt(signal.Signals(number).name)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, interrupt)
    began = time.time()
    try:
        passed = play(journal, seconds, began)
    except Interrupted as reason:
        click.echo(f"\n{reason}: stopped, nothing is left behind")
        sys.exit(128 + signal.Signals[str(reason)])
    sys.exit(0 if passed else 1)
