"""Count pgreact's messages instead of sending them."""

import json
from collections.abc import Sequence

from benchmarks.marks import Teller
from pgreact.broker.job_publisher import JobMessage, JobPublisher, Posted


def count_messages(tell: Teller) -> None:
    """Count each message of this process, and report its number if it has one."""

    def post(
        _publisher: object,
        _wire: object,
        group: Sequence[JobMessage],
        _until: float,
        posted: Posted,
        _doubtful: object,
    ) -> None:
        for message in group:
            tell.ended()
            if message.args != "[]":  # JSON text
                tell.began(json.loads(message.args)[0])
        posted.sent += group

    JobPublisher._post_group = post  # type: ignore[assignment]
