-- What fails at the moment, longest first; without rows left behind by a process that is gone.
select t.source, t.subject, t.error, t.since
from pgreact.trouble t
where exists (
    select
    from pg_stat_activity a
    where a.datname = current_database()
        and a.application_name like case t.source when 'beat' then 'pgreact beat %' else 'pgreact leader %' end
)
order by t.since, t.source, t.subject
