select pgreact.start(%(job)s, %(claim)s, %(retries)s, %(worker)s, %(publish_s)s)
