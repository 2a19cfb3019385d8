"""Actions on many jobs by the SQL functions of pgreact, in batches of a transaction each."""

import dataclasses
from collections.abc import Sequence

import psycopg

from pgreact.django.session import acting
from pgreact.postgres.event_log import log
from pgreact.postgres.queries import query

BATCH = 500  # jobs of a transaction
_LOCK = "300ms"  # that a batch waits for a row


@dataclasses.dataclass
class Outcome:
    """The result of an action.

    Attributes:
        done: Jobs acted on.
        started: Of a cancellation: jobs that run, for the last time.
        passed: Jobs that had changed before their turn.
        locked: Jobs whose rows another transaction kept locked.
    """

    done: int = 0
    started: int = 0
    passed: int = 0
    locked: int = 0


def act(verb: str, ids: Sequence[int], actor: str) -> Outcome:
    """Cancel, retry or discard jobs, and log it once in pgreact's event log.

    Args:
        verb: ``cancel``, ``retry`` or ``discard``.
        ids: Of the jobs.
        actor: The user.
    """
    outcome = Outcome()
    ordered = sorted(ids)
    for start in range(0, len(ordered), BATCH):
        _batch(verb, ordered[start : start + BATCH], actor, outcome)
    if not outcome.done and not outcome.started:
        return outcome
    done = {"cancel": "cancelled", "retry": "retried", "discard": "discarded"}[verb]
    subject = f"job {ordered[0]}" if len(ordered) == 1 else f"{len(ordered)} jobs"
    with acting(actor) as session:
        log(session, f"jobs.{done}", subject, **dataclasses.asdict(outcome))
    return outcome


def _batch(verb: str, ids: Sequence[int], actor: str, outcome: Outcome) -> None:
    """Act on a batch; search what is locked by halves."""
    try:
        with acting(actor) as session:
            session.execute(f"set local lock_timeout = '{_LOCK}'".encode())
            [[done, started]] = session.execute(query(f"jobs_{verb}").encode(), {"ids": [*ids]}).fetchall()
            session.execute("set local lock_timeout to default")
    except psycopg.errors.LockNotAvailable:
        if len(ids) == 1:
            outcome.locked += 1
            return
        half = len(ids) // 2
        _batch(verb, ids[:half], actor, outcome)
        _batch(verb, ids[half:], actor, outcome)
        return
    outcome.done += done
    outcome.started += started
    outcome.passed += len(ids) - done - started
