-- Runs the migrations that have not run, and the functions if they have changed: what pgreact apply does, as one statement for a
-- user's own migration tool. Its parameters are replaced by text: settings, names of all migrations, and their scripts.
declare
    applied jsonb := jsonb_build_object();
    newer text;
    settings text[] := {settings};
    before text[];
begin
    perform pg_advisory_xact_lock(1885827687, 0);  -- APPLY_LOCK of pgreact/postgres/migrations.py
    if to_regnamespace('pgreact') is not null then
        if to_regclass('pgreact.migration') is null then
            raise exception 'there is a schema pgreact that pgreact did not make: rename it first';
        end if;
        set constraints pgreact.sequence_last immediate;  -- of routes that this transaction has deleted
        select coalesce(jsonb_object_agg(m.name, m.checksum), applied) into applied from pgreact.migration m;
    end if;
    select max(k.name) into newer
    from jsonb_object_keys(applied) k (name)
    where k.name <> all ({names}::text[]);
    if newer is not null then
        raise exception 'this database was set up by a newer pgreact (migration %)', newer
            using hint = 'Install that version or newer.';
    end if;
    for n in 1 .. array_length(settings, 1) loop
        before[n] := current_setting(settings[n][1], true);
        if before[n] is not null then
            perform set_config(settings[n][1], settings[n][2], true);
        end if;
    end loop;
{steps}
    for n in 1 .. array_length(settings, 1) loop
        if before[n] is not null then
            perform set_config(settings[n][1], before[n], true);
        end if;
    end loop;
end
