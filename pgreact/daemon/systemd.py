"""Readiness, watchdog and status line for systemd; silent where there is none."""

import os

import sdnotify


class Systemd:
    """Talks to the service manager over ``$NOTIFY_SOCKET`` (``sd_notify(3)``)."""

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier() if os.environ.get("NOTIFY_SOCKET") else None

    def ready(self, status: str) -> None:
        """The daemon works: it hears commits, as leader or standby."""
        self._notify(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """Set the line that ``systemctl status`` shows."""
        self._notify(f"STATUS={status}")

    def alive(self) -> None:
        """Feed the watchdog: the event loop runs, and the sessions answered or are being opened anew."""
        self._notify("WATCHDOG=1")

    def stopping(self) -> None:
        """The daemon ends of its own will."""
        self._notify("STOPPING=1")

    def close(self) -> None:
        """Hang up."""
        if self._notifier is not None:
            self._notifier.socket.close()

    def _notify(self, state: str) -> None:
        if self._notifier is not None:
            self._notifier.notify(state)
