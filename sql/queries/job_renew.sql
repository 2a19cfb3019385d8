select pgreact.renew(%(jobs)s::bigint[], %(task_ids)s::uuid[])
