-- Cases: a dead job is queued with all its attempts (true); a delayed job becomes ready (true); any other is unchanged (false).
create or replace function pgreact.retry(job bigint) returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    again pgreact.dead;
begin
    delete from pgreact.dead d where d.id = job returning * into again;
    if found then
        insert into pgreact.queue (id, lane, task, args, kwargs, priority, key, max_attempts, max_lost, backoff, options, enqueued_at,
            task_id, error)
        values (again.id, again.lane, again.task, again.args, again.kwargs, again.priority, again.key, again.max_attempts,
            again.max_lost, again.backoff, again.options, again.enqueued_at, again.task_id, again.error);
        return true;
    end if;
    update pgreact.queue q set state = 'ready', run_at = pgreact.clock_now() where q.id = job and q.state = 'delayed';
    return found;
end
$$;
comment on function pgreact.retry(bigint)
    is 'queues a dead job with all its attempts, or lets a delayed job run now; false: it is neither';
revoke all on function pgreact.retry(bigint) from public;
