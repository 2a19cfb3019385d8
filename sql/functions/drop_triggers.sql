-- Drops the triggers of this name from all tables that are no longer attached by it. A detached partition still has one.
create or replace function pgreact.drop_triggers(name text) returns void
    language plpgsql
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    relation regclass;
begin
    for relation in
        select t.tgrelid
        from pg_trigger t
        join pg_proc p on p.oid = t.tgfoid
        where t.tgname = name
            and t.tgparentid = 0
            and p.pronamespace = 'pgreact'::regnamespace
            and t.tgrelid not in (
                select part
                from pgreact.attached() a
                cross join pgreact.trigger_parts(a.relation, a.event) part
                where a.trigger = name
            )
    loop
        execute format('drop trigger %I on %s', name, relation);
    end loop;
end
$$;
comment on function pgreact.drop_triggers(text) is 'drops pgreact''s triggers of this name where nothing is attached by it';
revoke all on function pgreact.drop_triggers(text) from public;
