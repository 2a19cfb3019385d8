-- Restores the built-in rows of the queue.
insert into pgreact.route (id, name, task, "window", gate_poll, gate_close_rate, ready)
overriding system value
values (0, 'pgreact.queue', 'pgreact.dispatch_next_available', '5 ms', '20 ms', 200,
    'select exists (select from pgreact.queue) or exists (select from pgreact.in_progress)'
    ' or exists (select from pgreact.queue_setting where num_nonnulls(retention, dead_retention) > 0)')
on conflict do nothing;
insert into pgreact.lane (name) values ('default') on conflict do nothing;
insert into pgreact.queue_setting default values on conflict do nothing;
insert into pgreact.queue_state default values on conflict do nothing;
insert into pgreact.canary default values on conflict do nothing;
