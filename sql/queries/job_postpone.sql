select pgreact.postpone(%(job)s, %(claim)s, %(retries)s, make_interval(secs => %(pause)s), %(resume)s, %(error)s)
