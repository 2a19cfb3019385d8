select pgreact.give_up(%(job)s, %(claim)s, %(retries)s, %(worker)s, %(outcome)s, %(error)s)
