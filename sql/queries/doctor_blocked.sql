-- Blocked jobs with no job ahead that would unblock them, among the first 10,000 blocked jobs. A key in contested_key is checked by
-- the next claim.
select b.id, pgreact.readable(b.key) as key
from (
    select q.id, q.key from pgreact.queue q where q.state = 'blocked' limit 10000
) b
where not exists (select from pgreact.queue a where a.key = b.key and a.id < b.id)
    and not exists (select from pgreact.in_progress p where p.key = b.key)
    and not exists (select from pgreact.contested_key c where c.key = b.key)
order by b.id
limit 100
