"""An application with a job queue in PostgreSQL and a Celery worker, as many teams have one."""
