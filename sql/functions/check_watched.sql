create or replace function pgreact.check_watched(watched regclass) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    kind "char";
    persistence "char";
begin
    select c.relkind, c.relpersistence
    into kind, persistence
    from pg_class c
    where c.oid = watched;
    if kind is null or kind not in ('r', 'p') or persistence = 't' then
        raise exception '% is not a permanent table', watched
            using errcode = 'wrong_object_type',
                hint = 'Attach to ordinary and partitioned tables; for a view, attach to the tables below it.';
    end if;
end
$$;
comment on function pgreact.check_watched(regclass) is 'refuses a relation that is no permanent table';
revoke all on function pgreact.check_watched(regclass) from public;
