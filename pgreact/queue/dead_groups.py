"""Dead jobs grouped by their error."""

import collections
import dataclasses
import datetime
from typing import Any

from pgreact.postgres.change import Connection, rows
from pgreact.postgres.queries import query

RANGE = 5_000  # dead jobs that are grouped: the newest
HOURS = 48  # of a group's sparkline
GROUPS = 50  # groups that are shown
_TASKS = 5  # tasks that a group names


@dataclasses.dataclass
class Group:
    """Dead jobs of one error.

    Attributes:
        pattern: The error, as ``pgreact.error_pattern`` makes it.
        jobs: How many.
        tasks: How many of each task, the most frequent first.
        hours: How many died in each hour, the last one at the end.
    """

    pattern: str
    jobs: int
    first_at: datetime.datetime
    last_at: datetime.datetime
    tasks: list[tuple[str, int]]
    hours: list[int]


@dataclasses.dataclass(frozen=True)
class Groups:
    """Groups of the newest dead jobs.

    Attributes:
        groups: The largest first.
        more: How many groups are not shown.
        jobs: Jobs that were read.
        complete: These were all.
    """

    groups: list[Group]
    more: int
    jobs: int
    complete: bool


def dead_groups(connection: Connection, hidden: list[str]) -> Groups:
    """Group the newest dead jobs.

    Args:
        connection: Any session on the database.
        hidden: The tasks, as patterns for ``like``, whose errors are grouped by class.
    """
    found = rows(connection, query("dead_groups"), {"hidden": hidden, "hours": HOURS, "range": RANGE})
    by_pattern: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    for row in found:
        by_pattern[row["pattern"]].append(row)
    groups = sorted(
        (_group(pattern, parts) for pattern, parts in by_pattern.items()),
        key=lambda group: (-group.jobs, group.pattern),
    )
    jobs = sum(group.jobs for group in groups)
    return Groups(groups[:GROUPS], max(0, len(groups) - GROUPS), jobs, jobs < RANGE)


def _group(pattern: str, parts: list[dict[str, Any]]) -> Group:
    tasks: collections.Counter[str] = collections.Counter()
    hours = [0] * HOURS
    for part in parts:
        tasks[part["task"]] += part["jobs"]
        if 0 <= part["hour"] < HOURS:
            hours[-1 - part["hour"]] += part["jobs"]
    return Group(
        pattern,
        tasks.total(),
        min(part["first_at"] for part in parts),
        max(part["last_at"] for part in parts),
        tasks.most_common(_TASKS),
        hours,
    )
