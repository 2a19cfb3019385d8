-- keeps_dying: jobs died in each of the last three spans of five minutes, at least ten in all; one bad batch does not count.
select s.max_in_progress, (select count(*) from pgreact.dead) as dead, d.lately as died_lately,
    d.lately >= 10 and d.spans = 3 as keeps_dying
from pgreact.queue_setting s
cross join (
    select count(*) as lately, count(distinct floor(extract(epoch from now() - d.died_at) / 300)) as spans
    from pgreact.dead d
    where d.died_at > now() - interval '15 min' and d.died_at <= now()
) d
