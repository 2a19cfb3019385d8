-- One step of the load of "pgreact demo --web": an order, whose outbox enqueues a job, and jobs of some lanes. A lane with many
-- waiting jobs gets no more.
with ordered as (
    insert into orders (total) select round((random() * 200)::numeric, 2) where random() < 0.2
)
select count(pgreact.enqueue(
    j.task,
    kwargs => jsonb_build_object('customer', (random() * 500)::integer, 'order', (random() * 1e6)::integer),
    lane => j.lane,
    priority => (random() * j.priorities)::integer,
    run_at => case when j.delay then clock_timestamp() + random() * interval '10 min' end,
    key => case when j.keyed then 'customer:' || (random() * 20)::integer end,
    max_attempts => j.attempts,
    backoff => '3 s',
    options => case when j.lane = 'reports' then '{"queue": "reports"}' else '{}' end::jsonb
))
from (values
    ('shop.send_email', 'mail', 0.7, 0, false, true, 3),
    ('shop.charge_card', 'default', 0.5, 9, false, true, 2),
    ('shop.resize_image', 'images', 0.5, 3, false, false, 1),
    ('shop.import_feed', 'imports', 0.05, 0, false, false, 1),
    ('shop.build_report', 'reports', 0.1, 0, false, false, 1),
    ('shop.remind', 'default', 0.1, 0, true, false, 1)
) j (task, lane, chance, priorities, delay, keyed, attempts)
where random() < j.chance
    and (select count(*) from (select from pgreact.queue q where q.lane = j.lane and q.state <> 'delayed' limit 60) b) < 60
