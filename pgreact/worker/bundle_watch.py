"""The thread that looks after the bundles of a process: nothing waits behind a job that turns out slow."""

import logging
import os
import threading
import time

from pgreact.worker.bundle_loop import SLOW, BundleLoop

_INTERVAL = SLOW / 2  # seconds between two looks
_LINGER = 200  # looks without a bundle, then the thread ends: a process without threads forks more safely

_log = logging.getLogger("pgreact.worker")


class Watch:
    """Look at the current jobs of bundles, in a thread that lives a little longer than they.

    It runs no statement: the lease renewer sends what the watch takes away from a loop.
    """

    def __init__(self) -> None:
        """Start nothing yet."""
        self._loops: set[BundleLoop] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, loop: BundleLoop) -> None:
        """Look after a loop from now on."""
        with self._lock:
            self._loops.add(loop)
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._work, name="pgreact bundle watch", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return  # no more threads: the others wait for a slow job; the next bundle tries again
            self._thread = thread

    def remove(self, loop: BundleLoop) -> None:
        """Look after a loop no longer."""
        with self._lock:
            self._loops.discard(loop)

    def _work(self) -> None:
        idle = 0
        while True:
            time.sleep(_INTERVAL)
            with self._lock:
                loops = list(self._loops)
                idle = 0 if loops else idle + 1
                if idle > _LINGER:
                    self._thread = None
                    return
            for loop in loops:
                try:
                    loop.hand_over()
                except Exception:  # noqa: BLE001 - all bundles of the process depend on this thread
                    _log.exception("bundle.failed: the watch of slow jobs")


_watch = Watch()


def watch() -> Watch:
    """Return the watch of this process."""
    return _watch


def _after_fork_in_child() -> None:
    global _watch  # noqa: PLW0603 - one watch a process
    _watch = Watch()


os.register_at_fork(after_in_child=_after_fork_in_child)
