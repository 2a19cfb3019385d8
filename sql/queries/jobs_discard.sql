-- Deletes dead jobs.
select count(*) filter (where r.done) as done, 0 as started
from (select pgreact.discard(j) as done from unnest(%(ids)s::bigint[]) j) r
