"""Time, behind one object, so that tests can turn it by hand."""

import random
import time


class Clock:
    """The machine's clocks and dice."""

    def monotonic(self) -> float:
        """Return seconds that only ever grow: for durations and deadlines."""
        return time.monotonic()

    def jitter(self) -> float:
        """Return a random number from 0 to 1, so that many daemons do not retry in step."""
        return random.random()

    def backoff(self, failures: int, *, base: float, cap: float) -> float:
        """Return how long to wait after so many failures in a row.

        Args:
            failures: Failures so far, 1 or more.
            base: Seconds after the first failure.
            cap: Seconds never exceeded.

        Returns:
            Seconds: doubled with each failure, of which the second half is random.
        """
        full = min(cap, base * 2.0 ** min(failures - 1, 30))
        return full * (0.5 + 0.5 * self.jitter())
