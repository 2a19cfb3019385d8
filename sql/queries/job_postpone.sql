select pgreact.postpone(%(job)s, %(task_id)s, %(retries)s, make_interval(secs => %(pause)s), %(resume)s, %(error)s)
