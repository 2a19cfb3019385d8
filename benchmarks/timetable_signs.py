"""Names shared by the bench and the beats it runs."""

# the environment of a beat
LOOP = "BENCH_LOOP"  # seconds; 0: its default
STORE = "BENCH_STORE"  # RedBeat's Redis
ENTRIES = "BENCH_ENTRIES"  # a file with Celery's beat_schedule

# what a beat reports, beside the numbers of entries
STARTED = -1
TICKED = -2  # before and after TICKS ticks, on SIGUSR1
TICKS = 10
