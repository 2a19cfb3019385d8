select pgreact.settle(%(job)s, %(claim)s, %(outcome)s, %(error)s)
