-- Waits for an advisory lock of the session; true: this session holds it. A statement that waits holds a snapshot, which holds
-- back vacuum: so the wait is short, and the caller repeats it. The handler keeps the time-outs out of the server's log.
create or replace function pgreact.acquire_lock(purpose text, timeout interval) returns boolean
    language plpgsql
    strict
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform set_config('lock_timeout', extract(epoch from timeout) * 1000 || 'ms', true);
    perform pg_advisory_lock(pgreact.lock_class(purpose), 0);
    return true;
exception
    when lock_not_available then
        return false;
end
$$;
comment on function pgreact.acquire_lock(text, interval) is 'waits for a lock of the session, at most this long; true: this session holds it';
revoke all on function pgreact.acquire_lock(text, interval) from public;
