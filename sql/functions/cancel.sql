create or replace function pgreact.cancel(job bigint) returns text
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    unstarted pgreact.in_progress;
begin
    if pgreact.drop_job(job, 'cancelled', null) then
        return 'cancelled';
    end if;
    -- a message that comes finds nothing to start
    delete from pgreact.in_progress p where p.id = job and p.started_at is null returning * into unstarted;
    if found then
        perform pgreact.record_history(unstarted, 'cancelled', null);
        if unstarted.key is not null then
            perform pgreact.unblock_next(unstarted.key, unstarted.claim_number);
        end if;
        return 'cancelled';
    end if;
    -- no further attempt
    update pgreact.in_progress p set max_attempts = greatest(p.attempt - p.lost, 1), max_lost = 0 where p.id = job;
    return case when found then 'started' end;
end
$$;
comment on function pgreact.cancel(bigint)
    is 'cancelled: it will not run; started: it runs, but not again; null: there is no such job';
revoke all on function pgreact.cancel(bigint) from public;
