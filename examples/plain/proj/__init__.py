"""An example application with a job queue in PostgreSQL and a Celery worker."""
