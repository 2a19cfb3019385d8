-- Runs as its owner, since a role that enqueues may not read pgreact's tables. Volatile, so that it sees jobs that the calling
-- statement has enqueued.
create or replace function pgreact.task_id(job bigint) returns uuid
    language sql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
as $$
select coalesce(
    (select q.task_id from pgreact.queue q where q.id = job),
    (select p.task_id from pgreact.in_progress p where p.id = job),
    (select d.task_id from pgreact.dead d where d.id = job)
)
$$;
comment on function pgreact.task_id(bigint) is 'returns Celery''s id of a job''s task, the same for every attempt; null: no such job';
revoke all on function pgreact.task_id(bigint) from public;
