-- From the moment this waits writers find B taken; it need never get it. The wait is short, so that the session
-- can be used for other things, and asked for again.
create or replace function pgreact.shut(route_id integer, patience interval) returns boolean
    language plpgsql
    strict
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform set_config('lock_timeout', extract(epoch from patience) * 1000 || 'ms', true);
    perform pg_advisory_lock(pgreact.lock_class('busy'), route_id);
    return true;
exception
    when lock_not_available then
        return false;
end
$$;
comment on function pgreact.shut(integer, interval) is 'closes the gate of a route; true: this session holds it closed';
revoke all on function pgreact.shut(integer, interval) from public;
