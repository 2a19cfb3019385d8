select extract(epoch from (
    select s.next_run_at
    from pgreact.schedule s
    where s.state = 'planned' and s.enabled and s.delivery = $1
    order by s.next_run_at
    limit 1
) - pgreact.moment())::float8
