-- By name, so that an index returns the first ones without a read of the rest.
select s.*
from pgreact.schedule s
where (%(pattern)s::text is null or s.name ilike %(pattern)s)
    and (%(after)s::text is null or s.name > %(after)s)
    and case %(which)s::text
        when 'enabled' then s.enabled
        when 'disabled' then not s.enabled
        when 'failed' then s.state = 'failed'
        when 'ended' then s.state = 'ended' and s.enabled
        -- those due longest, if they are thousands; an array, so that no plan walks through all names
        when 'overdue' then s.id = any (array(
            select o.id
            from (values ('queue'), ('direct')) d (delivery)
            cross join lateral (
                select p.id
                from pgreact.schedule p
                where p.state = 'planned' and p.enabled and p.delivery = d.delivery
                    and p.next_run_at < (select pgreact.clock_now() - interval '1 min')
                order by p.next_run_at
                limit 10000
            ) o
        ))
        else true
    end
order by s.name
limit %(limit)s
