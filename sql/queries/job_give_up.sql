select pgreact.give_up(%(job)s, %(task_id)s, %(retries)s, %(worker)s, %(outcome)s, %(error)s)
