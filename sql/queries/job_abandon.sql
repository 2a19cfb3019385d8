select pgreact.abandon(%(job)s, %(claim)s, %(retries)s, %(worker)s, %(outcome)s, %(error)s)
