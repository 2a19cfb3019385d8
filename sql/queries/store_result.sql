-- Keep what a task returned (value), or its error, until the retention has passed.
select pgreact.store_result(%(job)s, %(claim)s::uuid, %(value)s::jsonb, %(error)s::jsonb, %(retention)s * interval '1 s')
