create or replace function pgreact.discard(job bigint) returns boolean
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    with gone as (delete from pgreact.dead d where d.id = job returning d.id)
    select exists (select from gone)
$$;
comment on function pgreact.discard(bigint) is 'deletes a dead job; false: no such job is dead';
revoke all on function pgreact.discard(bigint) from public;
