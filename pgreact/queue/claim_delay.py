"""How long a dispatch of the queue delays its next claim."""

LONGEST = 0.05  # seconds
PART = 4


def claim_delay(waiting: int, claimed: int, since: float, due: float | None) -> float:
    """Return the seconds until the next claim, when all places are taken by jobs that wait for a worker.

    A claim for each freed place costs more than it gains, since the claimed jobs queue behind those in the
    broker. So the next claim comes when the workers have taken a quarter of those, at their recent pace.

    Args:
        waiting: Jobs that are claimed, and not started.
        claimed: Jobs that this claim took: as many places became free since the claim before.
        since: Seconds since the claim before, which left no place free either.
        due: Seconds until something else is due; ``None``: nothing is.
    """
    pause = waiting / PART * since / claimed
    return max(0.0, min(LONGEST, pause, LONGEST if due is None else due))
