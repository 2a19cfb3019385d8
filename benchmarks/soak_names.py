"""What the soak's application, its load, its faults and its figures call things, and the limits they keep."""

# Celery's queues: one whose workers are killed, and one whose workers are left alone while locks are held
BUSY, CALM = "busy", "calm"
BEAT_ENTRY = "by beat"

# lanes
NARROW, RATED, HEADS = "narrow", "rated", "heads"
RATE, BURST = 10.0, 3
# More than the workers can run, so that messages wait in the broker. The lanes that faults are about cannot
# take all places: so what happens to them is no reason for the calm lane to wait.
PLACES = 50
LANE_PLACES: dict[str | None, int] = {"default": 24, NARROW: 2, RATED: 4, HEADS: 8}

LEASE = 5.0  # seconds: short, so that much is lost and found again in a run
# Longer than a lease: what waits for a row that is held so long loses its lease.
HELD_LONGEST = 1.5 * LEASE

DATABASE = "soak"
# roles with what pgreact.grant_role gives them, and one without anything
DAEMON, WORKER, BEAT, STRANGER = "soak_daemon", "soak_worker", "soak_beat", "soak_stranger"

ROUTES = {"wakes": "wake", "flights": "fly"}  # routes and the tables they watch
QUEUED_SCHEDULES = [f"queued {n}" for n in range(5)]
DIRECT_SCHEDULES = [f"direct {n}" for n in range(3)]
