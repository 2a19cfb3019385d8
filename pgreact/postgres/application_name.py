"""The ``application_name`` of a daemon's sessions, which ``pgreact status`` reads in ``pg_stat_activity``."""

import os
import re
import socket
import time
from typing import NamedTuple

HOST = socket.gethostname()
_VERSION = 16  # bytes of a version: a local one may be longer


class Identity(NamedTuple):
    """The process that a session belongs to."""

    role: str
    host: str
    pid: int
    since: int
    version: str | None  # of pgreact, where the session says so


def application_name(role: str, since: float | None = None, version: str | None = None) -> str:
    """Return ``pgreact ROLE HOST PID SINCE``, with the version at its end if there is one.

    Args:
        role: The session's purpose: ``leader``, ``standby`` and so on.
        since: The start, in seconds since 1970; ``None``: now.
        version: Of pgreact.

    Returns:
        At most 63 bytes, PostgreSQL's limit. Of a longer host name the end is kept, which tells pods apart.
    """
    tail = f" {os.getpid()} {int(since if since is not None else time.time())}"
    if version is not None:
        tail += f" {re.sub(r'[^!-~]', '-', version)[:_VERSION]}"
    head = f"pgreact {role} "
    host = re.sub(r"[^!-~]", "-", HOST)[-(63 - len(head) - len(tail)) :]
    return head + host + tail


def parse(name: str) -> Identity | None:
    """Parse such a name; return ``None`` for any other name."""
    found = re.fullmatch(r"pgreact (\w+) (\S+) (\d+) (\d+)(?: (\S+))?", name)
    return Identity(found[1], found[2], int(found[3]), int(found[4]), found[5]) if found else None
