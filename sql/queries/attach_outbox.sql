-- For a migration of an application: attaches a table to a task.
-- - The lane that may be missing is created, without limits.
-- - The lock on the table is asked for 0.2 s at a time: writers do not queue behind a long transaction that holds it.
declare
    former text := current_setting('lock_timeout');
    deadline timestamptz := clock_timestamp() + interval '1 minute';
begin
    insert into pgreact.lane (name)
    select {create} where {create}::text is not null
    on conflict (name) do nothing;
    loop
        begin
            perform set_config('lock_timeout', '200ms', true);
            perform pgreact.attach(
                {table}::regclass, events => {events}::text[], condition => {condition}, enqueue => {task}, lane => {lane},
                always => {always}, changed => {changed}::text[]);
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
end
