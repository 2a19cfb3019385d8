"""The page ``docs/doctor.md``, made from the registered checks."""

import sys
from collections.abc import Iterator

from pgreact.doctor.examination import AREAS, LIMIT, selected
from pgreact.doctor.facts import TIMEOUT
from pgreact.quantities import format_duration

_HEAD = f"""\
# pgreact doctor

Generated from `pgreact/doctor` by `python -m pgreact.doctor.catalogue`; do not edit.

`pgreact -A proj doctor` checks a whole installation: configuration, PostgreSQL, triggers, daemons, vacuum,
broker, workers, clocks, queue and timetable. It changes nothing; each finding has a remedy to be pasted.

    pgreact -A proj doctor                 # all checks
    pgreact doctor wakeup storage.xmin     # an area, a check
    pgreact doctor --offline               # only what needs no server
    pgreact doctor --json                  # id, area, looked_at, verdict, finding, remedy
    pgreact doctor --list

| verdict | means | exit code |
|---|---|---|
| `ok` | nothing to do | 0 |
| `unknown` | it cannot see: a right is missing, or what it looks at cannot be reached; never a pass | 1 |
| `warn` | needs attention | 1 |
| `fail` | work is not done, or done late | 2 |

- **Cost**: each statement reads a bounded number of rows and ends after {format_duration(TIMEOUT)}; after
  {format_duration(LIMIT)} no further check begins. A check that fails is `unknown`, and the others run.
- **Rights**: `pgreact.grant_role(role, 'monitor')`, and `grant pg_monitor` to see which sessions hold back
  vacuum and how the clocks of daemons differ. Without application and broker the checks of workers are
  `unknown`.
- **Workers** are asked once, all together, by the remote-control command `pgreact_report`, which
  `pgreact.setup(app)` adds: version, database, clock, queues, tasks, pool and places. A worker without
  `pgreact.setup` answers Celery's own commands. A worker of the pool solo replies only between two tasks.
- **Time-outs** of a worker's role: a worker switches them off in the transaction of a run, so only those that
  end it before that are found.
"""


def page() -> Iterator[str]:
    """Return the lines of the page."""
    yield from _HEAD.splitlines()
    for area in AREAS:
        name = area.__name__.rpartition(".")[2]
        yield ""
        yield f"## {name}"
        yield ""
        yield (area.__doc__ or "").strip()
        yield ""
        yield "| check | looks at |"
        yield "|---|---|"
        for check in selected([name]):
            yield f"| `{check.id}` | {check.looked_at}{' (offline)' if check.offline else ''} |"


if __name__ == "__main__":
    sys.stdout.write("\n".join(page()) + "\n")
