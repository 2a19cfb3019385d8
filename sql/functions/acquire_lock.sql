-- A statement that waits holds a snapshot, and so vacuum: the wait is short, and asked for again.
-- The handler keeps the time-outs out of the server's log.
create or replace function pgreact.acquire_lock(purpose text, patience interval) returns boolean
    language plpgsql
    strict
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform set_config('lock_timeout', extract(epoch from patience) * 1000 || 'ms', true);
    perform pg_advisory_lock(pgreact.lock_class(purpose), 0);
    return true;
exception
    when lock_not_available then
        return false;
end
$$;
comment on function pgreact.acquire_lock(text, interval) is 'waits so long for a session''s lock; true: this session holds it';
revoke all on function pgreact.acquire_lock(text, interval) from public;
