"""What the soak's application, its load, its faults and its figures call things, and the limits they keep."""

# Celery's queues: one whose workers are killed, and one whose workers are left alone while locks are held
BUSY, CALM = "busy", "calm"
BEAT_ENTRY = "by beat"

# lanes
NARROW, RATED, HEADS = "narrow", "rated", "heads"
NARROW_PLACES = 2
RATE, BURST = 10.0, 3
PLACES = 40  # of all lanes together: more than the workers can run, so that messages wait in the broker

LEASE = 5.0  # seconds: short, so that much is lost and found again in a run
# Longer than a lease: what waits for a row that is held so long loses its lease.
HELD_LONGEST = 1.5 * LEASE

DATABASE = "soak"
# roles with what pgreact.grant_role gives them, and one without anything
DAEMON, WORKER, BEAT, STRANGER = "soak_daemon", "soak_worker", "soak_beat", "soak_stranger"

ROUTES = {"wakes": "wake", "flights": "fly"}  # routes and the tables they watch
QUEUED_SCHEDULES = [f"queued {n}" for n in range(5)]
DIRECT_SCHEDULES = [f"direct {n}" for n in range(3)]
