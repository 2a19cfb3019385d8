select pgreact.settle(%(job)s, %(task_id)s, %(outcome)s, %(error)s)
