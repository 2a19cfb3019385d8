"""The ``application_name`` of a daemon's sessions, which ``pgreact status`` reads in ``pg_stat_activity``."""

import os
import re
import socket
import time
from typing import NamedTuple

HOST = socket.gethostname()


class Identity(NamedTuple):
    """The process that a session belongs to."""

    role: str
    host: str
    pid: int
    since: int


def application_name(role: str, since: float | None = None) -> str:
    """Return ``pgreact ROLE HOST PID SINCE``.

    Args:
        role: The session's purpose: ``leader``, ``standby`` and so on.
        since: The start, in seconds since 1970; ``None``: now.

    Returns:
        At most 63 bytes, PostgreSQL's limit. Of a longer host name the end is kept, which tells pods apart.
    """
    tail = f" {os.getpid()} {int(since if since is not None else time.time())}"
    head = f"pgreact {role} "
    host = re.sub(r"[^!-~]", "-", HOST)[-(63 - len(head) - len(tail)) :]
    return head + host + tail


def parse(name: str) -> Identity | None:
    """Parse such a name; return ``None`` for any other name."""
    found = re.fullmatch(r"pgreact (\w+) (\S+) (\d+) (\d+)", name)
    return Identity(found[1], found[2], int(found[3]), int(found[4])) if found else None
