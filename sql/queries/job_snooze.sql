select pgreact.snooze(%(job)s, %(claim)s, make_interval(secs => %(pause)s), %(redelivered)s)
