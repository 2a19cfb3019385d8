"""The clock and the randomness of a process, behind one object that tests replace."""

import random
import time


class Clock:
    """The monotonic clock, and random jitter."""

    def monotonic(self) -> float:
        """Return the monotonic time in seconds: for durations and deadlines."""
        return time.monotonic()

    def jitter(self) -> float:
        """Return a random number from 0 to 1, so that daemons do not retry at the same time."""
        return random.random()

    def backoff(self, failures: int, *, base: float, cap: float) -> float:
        """Return the pause after failures in a row.

        Args:
            failures: Number of failures, 1 or more.
            base: Seconds after the first failure.
            cap: Seconds at most.

        Returns:
            Seconds, which double with each failure; up to half of them is subtracted at random.
        """
        full = min(cap, base * 2.0 ** min(failures - 1, 30))
        return full * (0.5 + 0.5 * self.jitter())
