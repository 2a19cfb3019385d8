select pgreact.hand_back(%(jobs)s::bigint[], %(claims)s::uuid[], %(worker)s, %(alone)s)
