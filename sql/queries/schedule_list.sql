-- By name, so that an index returns the first ones without a read of the rest.
select s.*
from pgreact.schedule s
where (%(pattern)s::text is null or s.name ilike %(pattern)s)
    and (not %(failed)s or s.state = 'failed')
order by s.name
limit %(limit)s
