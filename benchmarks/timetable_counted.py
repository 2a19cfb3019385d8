"""Count pgreact's messages instead of sending them."""

import json
from collections.abc import Sequence

from benchmarks.marks import MarkWriter
from pgreact.broker.job_publisher import JobMessage, JobPublisher, PublishResult


def count_messages(tell: MarkWriter) -> None:
    """Count each message of this process, and report its number if it has one."""

    def post(
        _publisher: object,
        _connection: object,
        group: Sequence[JobMessage],
        _until: float,
        posted: PublishResult,
        _doubtful: object,
    ) -> None:
        for message in group:
            tell.ended()
            if message.args != "[]":  # JSON text
                tell.began(json.loads(message.args)[0])
        posted.sent += group

    JobPublisher._post_group = post  # type: ignore[assignment]
