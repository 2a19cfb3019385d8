-- For a migration of an application: attaches a table to a route.
-- - The route is created if a task is known. Another task is an error, unless no table is attached to the route.
-- - The lock on the table is asked for 0.2 s at a time: writers do not queue behind a long transaction that holds it.
declare
    known record;
    former text := current_setting('lock_timeout');
    deadline timestamptz := clock_timestamp() + interval '1 minute';
begin
    insert into pgreact.route (name, task)
    select {route}, {task} where {task}::text is not null
    on conflict (name) do nothing;
    select r.id, r.task, r.origin into known from pgreact.route r where r.name = {route};
    if known.id is null then
        raise exception 'no route "%" in pgreact.route', {route}
            using errcode = 'undefined_object', hint = 'Give the task that the route calls, or configure the route.';
    elsif {strict} and known.task <> {task} then
        if known.origin = 'config' or exists (select from pgreact.watched w where w.route_id = known.id) then
            raise exception 'route "%" calls task "%", not "%"', {route}, known.task, {task}
                using errcode = 'object_not_in_prerequisite_state',
                    hint = 'Name another route, or give all tables of the route the same task: op.alter_route of Alembic does.';
        end if;
        update pgreact.route r set task = {task} where r.id = known.id;
    end if;
    loop
        begin
            perform set_config('lock_timeout', '200ms', true);
            perform pgreact.attach({table}::regclass, {route}, {events}::text[], {condition}, {always}, {changed}::text[]);
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
