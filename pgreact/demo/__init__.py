"""A whole cluster on one machine: a private PostgreSQL, a worker, two daemons and a producer."""
