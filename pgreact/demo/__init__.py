"""``pgreact demo``: a private PostgreSQL, a worker, two daemons and a producer on one machine."""
