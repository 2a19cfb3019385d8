select
    case
        when exists (select from pgreact.schedule s where s.state = 'new' and s.enabled and s.delivery = $1) then 0
        else extract(epoch from (
            select s.next_run_at
            from pgreact.schedule s
            where s.state = 'planned' and s.enabled and s.delivery = $1
            order by s.next_run_at
            limit 1
        ) - pgreact.moment())::float8
    end as wait,
    -- as the partial indexes have it
    exists (select from pgreact.schedule s where s.state = 'planned' and s.enabled and s.delivery = 'direct')
        or exists (select from pgreact.schedule s where s.state = 'new' and s.enabled and s.delivery = 'direct') as direct
