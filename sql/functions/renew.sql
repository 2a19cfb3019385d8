create or replace function pgreact.renew(jobs bigint[], task_ids uuid[]) returns double precision
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
update pgreact.in_progress p
set lease_until = greatest(p.lease_until, clock_timestamp() + (select s.lease from pgreact.queue_setting s))
from unnest(jobs, task_ids) j (id, task_id)
where p.id = j.id and p.task_id = j.task_id;

select extract(epoch from s.lease)::double precision from pgreact.queue_setting s
$$;
comment on function pgreact.renew(bigint[], uuid[]) is 'these attempts still run; returns the seconds of their lease';
revoke all on function pgreact.renew(bigint[], uuid[]) from public;
