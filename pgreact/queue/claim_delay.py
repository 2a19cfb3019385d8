"""How long a dispatch of the queue may wait for more places to be free."""

LONGEST = 0.05  # seconds
PART = 4


def rest(waiting: int, claimed: int, since: float, due: float | None) -> float:
    """Return the seconds until the next claim, when all places are taken by jobs that wait for a worker.

    A claim for each freed place costs more than it gives: whoever is claimed stands behind those who wait.
    So the next one comes when the workers have taken a quarter of them, going by their pace of late.

    Args:
        waiting: Jobs that are claimed, and not started.
        claimed: Jobs that this claim took, for so many places were freed since the one before.
        since: Seconds since the one before, which left no place either.
        due: Seconds until something else is due; ``None``: nothing is.
    """
    pause = waiting / PART * since / claimed
    return max(0.0, min(LONGEST, pause, LONGEST if due is None else due))
