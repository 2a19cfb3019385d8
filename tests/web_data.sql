-- What a busy cluster leaves behind, beyond its configuration and its tally. See web_data.py.

-- the daemon's routing of tasks to Celery queues
insert into pgreact.task (name, queue) values
    ('shop.tasks.index', 'default'), ('shop.tasks.send_mail', 'mail'), ('shop.tasks.resize', 'images'),
    ('shop.tasks.report', 'reports'), ('shop.tasks.call', 'webhooks');

select count(pgreact.enqueue('shop.tasks.send_mail', lane => 'mail')) from generate_series(1, 1400);
select count(pgreact.enqueue('shop.tasks.resize', lane => 'images')) from generate_series(1, 18);
select count(pgreact.enqueue('shop.tasks.call', lane => 'webhooks', run_at => now() + interval '1 h')) from generate_series(1, 37);
select count(pgreact.enqueue('shop.tasks.report', lane => 'reports', key => 'year')) from generate_series(1, 5);
select pgreact.claim(12);
update pgreact.in_progress
set published_at = now(), started_at = now() - interval '4 s', worker = 'celery@app-' || id % 3;
update pgreact.queue set run_at = run_at - interval '40 s', enqueued_at = enqueued_at - interval '40 s' where lane = 'mail';

insert into pgreact.event_log (at, event, subject, actor, details) values
    (now() - interval '52 min', 'daemon.deployed', '1.4.0', 'daemon app-2 4711', '{"before": "1.3.2"}'),
    (now() - interval '51 min', 'leader.elected', 'app-2 4711', 'daemon app-2 4711', '{"version": "1.4.0"}'),
    (now() - interval '21 min', 'gate.closed', 'search_index', 'daemon app-2 4711', '{}'),
    (now() - interval '17 min', 'gate.opened', 'search_index', 'daemon app-2 4711', '{}');

insert into pgreact.flight (route_id, dispatches, task_id, published_at, signals, waited_ms, gate, gate_since)
select r.id, 4812, gen_random_uuid(), now() - interval '3 s', 7, 12, 'open', now() - interval '17 min'
from pgreact.route r
where r.name <> 'pgreact.queue';
