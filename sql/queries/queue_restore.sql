-- What is built in, where somebody deleted it. A truncate of pgreact.route leaves triggers and sequence behind.
do $$
declare
    left_behind record;
begin
    if not exists (select from pgreact.route r where r.id = 0) then
        for left_behind in
            select t.tgrelid::regclass as relation, t.tgname from pg_trigger t where t.tgname ~ '^pgreact_0_' and t.tgparentid = 0
        loop
            execute format('drop trigger %I on %s', left_behind.tgname, left_behind.relation);
        end loop;
        drop sequence if exists pgreact.gate_0;
    end if;
end
$$;
insert into pgreact.route (id, name, task, "window", gate_poll, gate_close_rate, ready)
overriding system value
values (0, 'pgreact.queue', 'pgreact.dispatch_next_available', '5 ms', '20 ms', 200,
    'select exists (select from pgreact.queue) or exists (select from pgreact.in_progress)'
    ' or exists (select from pgreact.queue_setting where num_nonnulls(keep, dead_retention) > 0)')
on conflict do nothing;
insert into pgreact.lane (name) values ('default') on conflict do nothing;
insert into pgreact.queue_setting default values on conflict do nothing;
insert into pgreact.queue_state default values on conflict do nothing;
