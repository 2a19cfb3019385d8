"""``pgreact listen``, with its messages counted, not sent."""

from typing import Any

from benchmarks.marks import MarkWriter
from benchmarks.timetable_counted import count_messages
from benchmarks.timetable_signs import STARTED
from pgreact.cli.main import main
from pgreact.daemon import daemon

_marks = MarkWriter()
count_messages(_marks)


class _Daemon(daemon.Daemon):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        _marks.began(STARTED)  # Celery is imported


daemon.Daemon = _Daemon  # type: ignore[misc]
main.main(["listen", "--log-format", "json"])
