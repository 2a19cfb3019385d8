select id, attempt, outcome, extract(epoch from claimed_at)::float8, extract(epoch from started_at)::float8,
    extract(epoch from settled_at)::float8
from pgreact.history
where id = any (%(jobs)s) and started_at is not null
order by settled_at
