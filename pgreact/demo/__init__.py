"""A whole cluster on one machine: a private PostgreSQL, a worker, two listeners and a producer."""
