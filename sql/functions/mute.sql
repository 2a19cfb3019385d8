create or replace function pgreact.mute() returns void
    language sql
    set search_path = pg_catalog, pg_temp
as $$
select set_config('pgreact.muted', 'on', true)
$$;
comment on function pgreact.mute() is 'the rest of this transaction signals nothing; rolling back to an earlier savepoint undoes it';
revoke all on function pgreact.mute() from public;
