select r.lease_s, r.skipped from pgreact.renew(%(jobs)s::bigint[], %(task_ids)s::uuid[]) r
