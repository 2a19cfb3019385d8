"""Names and limits that application, load, faults and checks of the soak share."""

# Celery's queues: the workers of the first are killed, those of the second not while locks are held
BUSY, CALM = "busy", "calm"
BEAT_ENTRY = "by beat"

# lanes
NARROW, RATED, HEADS = "narrow", "rated", "heads"
RATE, BURST = 10.0, 3
# More than the workers can run, so that messages wait in the broker. The lanes with faults cannot take all
# places, so they give the calm lane no reason to wait.
PLACES = 50
LANE_PLACES: dict[str | None, int] = {"default": 24, NARROW: 2, RATED: 4, HEADS: 8}

LEASE = 5.0  # seconds; short, so that a run loses and repeats many attempts
# Longer than a lease: an attempt whose row is held so long loses its lease.
HELD_LONGEST = 1.5 * LEASE

DATABASE = "soak"
# roles with the rights of pgreact.grant_role, and one without rights
DAEMON, WORKER, BEAT, STRANGER = "soak_daemon", "soak_worker", "soak_beat", "soak_stranger"

ROUTES = {"wakes": "wake", "flights": "fly"}  # routes and the tables they watch
QUEUED_SCHEDULES = [f"queued {n}" for n in range(5)]
DIRECT_SCHEDULES = [f"direct {n}" for n in range(3)]
