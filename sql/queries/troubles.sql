-- The troubles that last, the longest first. Rows of a process that has ended are left out.
select t.source, t.subject, t.error, t.since
from pgreact.trouble t
where exists (
    select
    from pg_stat_activity a
    where a.datname = current_database()
        and a.application_name like case t.source when 'beat' then 'pgreact beat %' else 'pgreact leader %' end
)
order by t.since, t.source, t.subject
