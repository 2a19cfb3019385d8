-- Replaces the troubles of one source ($1) by those of $2.
with given as (
    select t.subject, t.error, now() - make_interval(secs => t.for_s) as since
    from jsonb_to_recordset($2::jsonb) as t (subject text, error text, for_s float8)
),
over as (
    delete from pgreact.trouble t
    where t.source = $1 and not exists (select from given g where g.subject = t.subject)
)
insert into pgreact.trouble (source, subject, error, since)
select $1, g.subject, g.error, g.since
from given g
on conflict (source, subject) do update set error = excluded.error, since = excluded.since
