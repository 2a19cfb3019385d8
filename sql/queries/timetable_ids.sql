-- The ids of the rows of timetable_due: they can be read whatever else is wrong with a row.
(
    select s.id
    from pgreact.schedule s
    where s.state = 'new' and s.enabled and s.delivery = $1 and s.id > $2 and s.id not in (select unnest($5::bigint[]))
    order by s.id
    limit $6
)
union all
(
    select s.id
    from pgreact.schedule s
    where s.state = 'planned' and s.enabled and s.delivery = $1 and s.next_run_at <= (select pgreact.clock_now())
        and (s.next_run_at, s.id) > (coalesce($3, timestamptz '-infinity'), $4)
        and s.id not in (select unnest($5::bigint[]))
    order by s.next_run_at, s.id
    limit $6
)
