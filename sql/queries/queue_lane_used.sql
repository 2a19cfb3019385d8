-- A lane that was deleted in SQL may still have jobs.
select exists (select from pgreact.queue q where q.lane = %(lane)s)
    or exists (select from pgreact.in_progress p where p.lane = %(lane)s)
    or exists (select from pgreact.dead d where d.lane = %(lane)s) as used
