-- Behind the places up to which a leader has looked: $2 of those to be planned (id), $3 and $4 of those that wait (next_run_at, id).
-- $5: those set aside. No time that a row may have makes it fail.
select
    case
        when (
            select true
            from pgreact.schedule s
            where s.state = 'new' and s.enabled and s.delivery = $1 and s.id > $2 and s.id not in (select unnest($5::bigint[]))
            order by s.id
            limit 1
        ) then 0
        else (
            select extract(epoch from s.next_run_at)::float8
            from pgreact.schedule s
            where s.state = 'planned' and s.enabled and s.delivery = $1
                and (s.next_run_at, s.id) > (coalesce($3, timestamptz '-infinity'), $4)
                and s.id not in (select unnest($5::bigint[]))
            order by s.next_run_at, s.id
            limit 1
        ) - extract(epoch from pgreact.clock_now())::float8
    end as wait,
    extract(epoch from pgreact.clock_now())::float8 as clock,
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
