select r.lease_s, r.skipped from pgreact.renew(%(jobs)s::bigint[], %(claims)s::uuid[]) r
