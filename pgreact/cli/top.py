"""``pgreact top``: the cluster live in a terminal.

One loop waits for a notification on ``pgreact_live``, for a key, and for the next second. A notification
leads to a new reading, at most two a second; a second only moves the ages on the screen. Without
notifications, as when no daemon leads, it reads every 15 s. When the connection is lost, the last reading
stays on the screen until the next one succeeds.
"""

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live

from pgreact.cli.top_reading import Reading, read
from pgreact.cli.top_screen import frame
from pgreact.errors import PgreactError
from pgreact.postgres.change import Connection
from pgreact.postgres.connect import connect
from pgreact.quantities import format_duration

BETWEEN = 0.5  # seconds between two readings, at least
REREAD = 15.0  # seconds until a reading without a notification
TICK = 1.0  # seconds between two frames
PAUSE = 1.0  # seconds until the next attempt to connect
WIDTH = 120  # columns of a frame that goes to no terminal


def once(dsn: str) -> None:
    """Print one frame.

    Args:
        dsn: The database.

    Raises:
        PgreactError: The database cannot be read.
    """
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=WIDTH)
    with connect(dsn) as connection:
        console.print(frame(read(connection), 0.0, console.width))


def watch(dsn: str) -> None:
    """Show the cluster until ``q``, Ctrl-C or SIGTERM.

    Args:
        dsn: The database.

    Raises:
        PgreactError: The database cannot be read at the start.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), _keyboard() as keyboard:
        with connect(dsn) as connection:
            screen = _Screen(keyboard, read(connection))
        with screen:
            while not screen.left:
                try:
                    with connect(dsn) as connection:
                        screen.follow(connection)
                except PgreactError as error:
                    screen.lost(str(error))


class _Screen:
    """The last reading on the terminal, and what the user types."""

    def __init__(self, keyboard: int | None, reading: Reading) -> None:
        self.left = False
        self._keyboard = keyboard
        self._reading = reading
        self._stale = False  # a notification came after the last reading began
        self._live = Live(screen=True, auto_refresh=False)

    def __enter__(self) -> None:
        self._live.__enter__()

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def follow(self, connection: Connection) -> None:
        """Read and show until the user leaves.

        Raises:
            psycopg.Error: The connection is lost.
        """
        connection.add_notify_handler(self._notified)
        connection.execute("listen pgreact_live")
        self._read(connection)
        while not self.left:
            self._show("pgreact top: q quits")
            age = self._age()
            self._wait(BETWEEN - age if self._stale else min(TICK, REREAD - age), connection)
            if self._age() >= (BETWEEN if self._stale else REREAD):
                self._read(connection)

    def lost(self, error: str) -> None:
        """Show that the connection is lost, for the time until the next attempt."""
        self._show(
            f"LOST, connecting again; this was read {format_duration(self._age(), roughly=True)} ago: {error}"
        )
        self._wait(PAUSE)

    def _age(self) -> float:
        return time.monotonic() - self._reading.read

    def _show(self, title: str) -> None:
        size = self._live.console.size
        self._live.update(frame(self._reading, self._age(), size.width, size.height, title), refresh=True)

    def _read(self, connection: Connection) -> None:
        self._stale = False
        self._reading = read(connection)

    def _notified(self, _notification: object) -> None:
        self._stale = True

    def _wait(self, seconds: float, connection: Connection | None = None) -> None:
        """Wait for a key or a notification."""
        sources = [source for source in (self._keyboard, connection) if source is not None]
        readable, _, _ = select.select(sources, [], [], max(0.0, seconds))
        if self._keyboard is not None and self._keyboard in readable:
            typed = os.read(self._keyboard, 100)
            self.left = not typed or b"q" in typed.lower()
        if connection is not None and connection in readable:
            connection.pgconn.consume_input()
            while notification := connection.pgconn.notifies():
                self._notified(notification)


@contextlib.contextmanager
def _keyboard() -> Iterator[int | None]:
    """Let keys arrive one by one, without echo; yield where, or ``None`` if standard input is no terminal."""
    if not sys.stdin.isatty():
        yield None
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)
    try:
        yield keyboard
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
