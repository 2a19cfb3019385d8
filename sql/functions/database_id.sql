-- The id contains the oid, since a database may be a copy of another one, made by a dump.
create or replace function pgreact.database_id() returns text
    language plpgsql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select pgreact.readable(d.datname::text) || '/'
            || left(md5(concat_ws(' ', d.oid, (select min(m.applied_at) from pgreact.migration m))), 8)
        from pg_database d
        where d.datname = current_database()
    );
end
$$;
comment on function pgreact.database_id() is 'the id of this database in messages: its name, and a mark that no copy of it has';
revoke all on function pgreact.database_id() from public;
