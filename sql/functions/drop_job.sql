create or replace function pgreact.drop_job(job bigint, outcome text, error text) returns boolean
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    gone pgreact.queue;
begin
    delete from pgreact.queue q where q.id = job returning * into gone;
    if not found then
        return false;
    end if;
    perform pgreact.record_history(gone, outcome, error);
    if outcome <> 'cancelled' then
        perform pgreact.record_dead(gone, outcome, error);
    end if;
    if gone.key is not null then
        perform pgreact.unblock_next(gone.key, 9223372036854775807);
        -- a claim may have passed over the first one while it was held here
        perform pgreact.signal('pgreact.queue');
    end if;
    return true;
end
$$;
comment on function pgreact.drop_job(bigint, text, text) is 'ends a job that waits';
revoke all on function pgreact.drop_job(bigint, text, text) from public;
