"""The counts of the queue's dispatches, for metrics."""

import dataclasses


@dataclasses.dataclass(slots=True)
class QueueMeasures:
    """The claims since this process started.

    Attributes:
        republished: Messages of attempts that were published before, since no worker started them within the
            lease, or since their publish was cut short.
    """

    republished: int = 0
