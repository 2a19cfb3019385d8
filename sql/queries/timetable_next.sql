select
    case
        when (
            select true
            from pgreact.schedule s
            where s.state = 'new' and s.enabled and s.delivery = $1
            order by s.id
            limit 1
        ) then 0
        else extract(epoch from (
            select s.next_run_at
            from pgreact.schedule s
            where s.state = 'planned' and s.enabled and s.delivery = $1
            order by s.next_run_at
            limit 1
        ) - pgreact.moment())::float8
    end as wait,
    -- in the order of a partial index each, so that no plan reads the table
    coalesce(
        (
            select true
            from pgreact.schedule s
            where s.state = 'planned' and s.enabled and s.delivery = 'direct'
            order by s.next_run_at
            limit 1
        ),
        (
            select true
            from pgreact.schedule s
            where s.state = 'new' and s.enabled and s.delivery = 'direct'
            order by s.id
            limit 1
        ),
        false
    ) as direct
