select pgreact.abandon_bundle(%(jobs)s::bigint[], %(claims)s::uuid[], %(worker)s, %(outcome)s, %(error)s)
