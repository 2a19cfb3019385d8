select worker from pgreact.in_progress where id = %(job)s and started_at is not null
