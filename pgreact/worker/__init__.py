"""The Celery worker's side of a flight: one run of a route's task at a time, on all machines together."""
