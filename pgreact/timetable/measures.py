"""The counts and times of firings, for metrics."""

import dataclasses

from pgreact.histogram import Histogram


@dataclasses.dataclass(slots=True)
class TimetableMeasures:
    """The firings since this process started.

    Attributes:
        lateness: From the time at which an occurrence was due until it was fired.
        misfires: Firings at which an occurrence was found later than ``grace``, missed, or skipped since the
            run before it went on.
    """

    lateness: Histogram = dataclasses.field(default_factory=Histogram)
    misfires: int = 0
