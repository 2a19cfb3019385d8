select pgreact.hold(%(job)s, %(task_id)s, make_interval(secs => %(pause)s), %(redelivered)s)
