"""systemd's readiness, watchdog and status line; without systemd this does nothing."""

import os

import sdnotify


class Systemd:
    """Talks to the service manager over ``$NOTIFY_SOCKET`` (``sd_notify(3)``)."""

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier() if os.environ.get("NOTIFY_SOCKET") else None

    def ready(self, status: str) -> None:
        """Report readiness: the daemon leads or stands by."""
        self._notify(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """Set the status line that ``systemctl status`` shows."""
        self._notify(f"STATUS={status}")

    def alive(self) -> None:
        """Feed the watchdog: the event loop runs, and the sessions answer or are being opened anew."""
        self._notify("WATCHDOG=1")

    def stopping(self) -> None:
        """Report that the daemon is stopping."""
        self._notify("STOPPING=1")

    def close(self) -> None:
        """Close the socket."""
        if self._notifier is not None:
            self._notifier.socket.close()

    def _notify(self, state: str) -> None:
        if self._notifier is not None:
            self._notifier.notify(state)
