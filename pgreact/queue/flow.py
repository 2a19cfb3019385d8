"""How fast the jobs of a lane went lately: rate, wait and run, from the histograms of ``pgreact.tally``."""

from typing import NamedTuple

from pgreact.histogram import quantile
from pgreact.postgres.change import Connection, rows
from pgreact.postgres.queries import query


class Flow(NamedTuple):
    """The attempts of a lane that were settled in the last five minutes; durations in seconds."""

    jobs_s: float
    wait_p50: float | None
    wait_p95: float | None
    run_p50: float | None
    run_p95: float | None


def flow(connection: Connection) -> dict[str, Flow]:
    """Return the flow of each lane in which attempts were settled lately.

    Args:
        connection: Any session on the database.

    Returns:
        By lane; ``""``: jobs that were not in a lane yet. A quantile is ``None`` if no worker started a job.
    """
    return {
        row["lane"]: Flow(
            row["jobs_s"],
            *(
                quantile(row[counts], row["bounds"], share)
                for counts in ("waits", "runs")
                for share in (0.5, 0.95)
            ),
        )
        for row in rows(connection, query("queue_flow"))
    }
