"""How long a dispatch of the queue delays its next claim, and how soon it claims without a signal."""

LONGEST = 0.05  # seconds
PART = 4
SOON = 0.005  # seconds
SOON_FOR = 0.02  # seconds: the time between two polls of the queue's closed gate


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


def until_place(idle: float) -> float | None:
    """Return the seconds until the next claim of a lane at its limit, whose freed places are idle until then.

    While settlements come fast the gate is closed, and only the next poll would find one. After that time
    signals suffice.

    Args:
        idle: Seconds since the last claim that took jobs.

    Returns:
        ``None``: wait for a signal.
    """
    return SOON if idle < SOON_FOR else None
