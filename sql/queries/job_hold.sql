select pgreact.hold(%(job)s, %(claim)s, make_interval(secs => %(pause)s), %(redelivered)s)
