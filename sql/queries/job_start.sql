select pgreact.start(%(job)s, %(task_id)s, %(retries)s, %(worker)s)
