-- Seconds until a schedule is due, 0 if one is new; the clock; and whether any schedule is of direct delivery. $1: delivery;
-- new schedules are read behind the id $2, due ones behind next_run_at $3 and id $4; $5: ids to leave out.
-- No value of a row makes it fail.
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
    -- each in the order of a partial index, so that no plan reads the table
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
