create or replace function pgreact.published(task_ids uuid[]) returns uuid[]
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
update pgreact.in_progress p
set published_at = clock_timestamp()
from unnest(task_ids) t (task_id)
where p.task_id = t.task_id and p.published_at is null;
select '{}'::uuid[]
$$;
comment on function pgreact.published(uuid[]) is 'the broker has the messages of these attempts';
revoke all on function pgreact.published(uuid[]) from public;
