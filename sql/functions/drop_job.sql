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
        -- A claim may have skipped the first job of the key while this transaction held it.
        perform pgreact.signal('pgreact.queue');
    end if;
    return true;
end
$$;
comment on function pgreact.drop_job(bigint, text, text) is 'removes a waiting job: cancelled, or dead with this outcome; false: no such job waits';
revoke all on function pgreact.drop_job(bigint, text, text) from public;
