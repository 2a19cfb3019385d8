-- Removes all objects of pgreact: its triggers on the users' tables, and its schema.
do $$
declare
    found record;
begin
    if to_regnamespace('pgreact') is null then
        return;
    end if;
    if to_regclass('pgreact.migration') is null then
        raise exception 'there is a schema pgreact that pgreact did not make: rename it first';
    end if;
    for found in
{foreign_triggers}
    loop
        execute format('drop trigger %I on %s', found.trigger, found."table");
    end loop;
    set constraints pgreact.sequence_last immediate;  -- of routes that this transaction has deleted
    drop schema pgreact cascade;
end
$$;
