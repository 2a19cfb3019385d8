-- Removes pgreact with its triggers; the database is then as it was before.
do $$
declare
    amiss record;
begin
    if to_regnamespace('pgreact') is null then
        return;
    end if;
    if to_regclass('pgreact.migration') is null then
        raise exception 'there is a schema pgreact that pgreact did not make: rename it first';
    end if;
    for amiss in
{foreign_triggers}
    loop
        execute format('drop trigger %I on %s', amiss.trigger, amiss."table");
    end loop;
    drop schema pgreact cascade;
end
$$;
