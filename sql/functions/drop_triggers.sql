create or replace function pgreact.drop_triggers(name text, kept regclass[]) returns void
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
            and t.tgrelid <> all (kept)
    loop
        execute format('drop trigger %I on %s', name, relation);
    end loop;
end
$$;
comment on function pgreact.drop_triggers(text, regclass[])
    is 'drops our triggers of this name from all tables but these; a detached partition has one still';
revoke all on function pgreact.drop_triggers(text, regclass[]) from public;
