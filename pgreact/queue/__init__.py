"""Jobs: how they are enqueued from Python, and how the dispatch hands them to Celery."""
