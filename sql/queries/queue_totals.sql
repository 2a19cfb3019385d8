-- Counts stop at 10,001. keeps_dying: jobs died in each of the last three spans of five minutes, at least ten in all; one bad batch
-- does not count.
select
    s.max_in_progress,
    (select count(*) from (select from pgreact.dead limit 10001) c) as dead,
    d.died as died_lately,
    d.died >= 10 and not exists (
        select
        from generate_series(0, 2) n
        where not exists (
            select
            from pgreact.dead e
            where e.died_at > now() - (n + 1) * interval '5 min' and e.died_at <= now() - n * interval '5 min'
        )
    ) as keeps_dying
from pgreact.queue_setting s
cross join (
    select count(*) as died
    from (select from pgreact.dead e where e.died_at > now() - interval '15 min' and e.died_at <= now() limit 10001) c
) d
