select to_jsonb(r) from pgreact.renew(%(jobs)s::bigint[], %(task_ids)s::uuid[]) r
