-- For a migration of an application: detaches a table from a task.
-- It has no percent sign, which Django takes for a parameter where it removes a constraint.
-- The lock on the table is asked for 0.2 s at a time: writers do not queue behind a long transaction that holds it.
declare
    former text := current_setting('lock_timeout');
    deadline timestamptz := clock_timestamp() + interval '1 minute';
    removed bigint := 0;
begin
    if to_regclass('pgreact.outbox') is null then
        return;  -- uninstalled
    end if;
    loop
        begin
            perform set_config('lock_timeout', '200ms', true);
            delete from pgreact.outbox o
            where o.task = {task} and o.relation = {table}::regclass and o.event = any ({events}::text[]);
            get diagnostics removed = row_count;
            exit;
        exception
            when lock_not_available or deadlock_detected then
                if clock_timestamp() > deadline then
                    raise;
                end if;
        end;
        perform pg_sleep(0.1 + 0.2 * random());
    end loop;
    perform set_config('lock_timeout', former, true);
    if {strict} and removed = 0 then
        raise exception using
            message = concat({table}, ' does not enqueue "', {task}, '"'),
            errcode = 'undefined_object',
            hint = 'pgreact.outbox has what is attached.';
    end if;
end
