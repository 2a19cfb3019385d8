"""Clocks: a call's ``expires`` is stamped by the daemon's clock and judged by the worker's."""

from collections.abc import Iterator

from pgreact.doctor.checks import Finding, check, fail, warn
from pgreact.doctor.facts import Facts
from pgreact.postgres.queries import clock_definition
from pgreact.quantities import format_duration

SKEW = 2.0  # seconds that no setting minds
SYNCHRONISE = "timedatectl set-ntp true   # on {}"


@check("clock.frozen", "the clock of queue and timetable, which tests may stop, beside the server's")
def frozen(facts: Facts) -> Iterator[Finding]:
    ahead = facts.row("doctor_frozen_clock")["ahead_s"]
    if abs(ahead) > SKEW:
        yield fail(
            f"the clock of queue and timetable is {_off(ahead)} the server's: pgreact.clock_now() was "
            "replaced, as pgreact.testing.freeze does",
            clock_definition(),
        )


@check("clock.workers", "each worker's clock beside the database's", asks_workers=True)
def workers(facts: Facts) -> Iterator[Finding]:
    for worker in facts.workers:
        skew = worker.ahead + facts.ahead
        if abs(skew) > SKEW:
            yield warn(
                f"the clock of worker {worker.name} is {_off(skew)} the database's",
                SYNCHRONISE.format(worker.name.rpartition("@")[2]),
            )


@check("clock.daemons", "each daemon's clock when it connected beside the database's")
def daemons(facts: Facts) -> Iterator[Finding]:
    for host, skew in _daemons(facts).items():
        if abs(skew) > SKEW:
            yield warn(
                f"the clock of {host}, a daemon's host, is {_off(skew)} the database's",
                SYNCHRONISE.format(host),
            )


@check("clock.expires", "the shortest expires of routes and schedules beside these clocks", asks_workers=True)
def expires(facts: Facts) -> Iterator[Finding]:
    leader = facts.leader
    stamped = _daemons(facts).get(leader.identity.host, 0.0) if leader else 0.0
    limits = [row for row in facts.rows("doctor_settings") if row["expires"]]
    for worker in facts.workers:
        late = worker.ahead + facts.ahead - stamped
        for row in limits:
            if late >= row["expires"] > 0:
                yield fail(
                    f"{row['kind']} {row['name']} expires after {format_duration(row['expires'])}, and the "
                    f"clock of worker {worker.name} is {format_duration(late, roughly=True)} ahead of the "
                    "daemon's: it drops every call without a word",
                    SYNCHRONISE.format(worker.name.rpartition("@")[2]),
                )


def _daemons(facts: Facts) -> dict[str, float]:
    """Return how far each daemon's clock was ahead when it last connected, at least; negative: behind.

    A session's name has the time of the daemon's clock just before it connected, in whole seconds.
    """
    facts.require_statistics()
    found: dict[str, float] = {}
    for identity, row in facts.sessions:  # the last to connect come last
        if identity.role not in {"leader", "worker"}:  # named again at the election
            connected = row["backend_start"].timestamp()
            found[identity.host] = max(0.0, identity.since - connected) + min(
                0.0, identity.since + 1 - connected
            )
    return found


def _off(skew: float) -> str:
    by = format_duration(abs(skew), roughly=True)
    return f"{by} ahead of" if skew > 0 else f"{by} behind"
