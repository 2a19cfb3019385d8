create or replace function pgreact.cancel(job bigint) returns text
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    running pgreact.in_progress;
begin
    if pgreact.drop_job(job, 'cancelled', null) then
        return 'cancelled';
    end if;
    -- no further attempt; and a message that nobody started finds nothing to start
    update pgreact.in_progress p set max_attempts = p.attempt where p.id = job returning * into running;
    if not found then
        return null;
    end if;
    if running.started_at is not null then
        return 'started';
    end if;
    delete from pgreact.in_progress p where p.id = job;
    perform pgreact.remember(running.id, running.lane, running.task, running.key, running.attempt, 'cancelled', null,
        running.task_id, null, running.enqueued_at, running.claimed_at, null);
    if running.key is not null then
        perform pgreact.let_next(running.key);
    end if;
    return 'cancelled';
end
$$;
comment on function pgreact.cancel(bigint)
    is 'cancelled: it will not run; started: it runs, but not again; null: there is no such job';
revoke all on function pgreact.cancel(bigint) from public;
