-- Each route with its settings, its last dispatch, flight and gate.
select
    r.name,
    r.task,
    extract(epoch from r."window")::float8 as window_s,
    r.single_flight,
    coalesce(f.dispatches, 0) as dispatches,
    f.published_at,
    f.task_id,
    f.signals,
    f.waited_ms,
    f.dirty_since,
    f.in_flight_since,
    f.error,
    r.gate as gate_setting,
    f.gate,
    f.gate_since,
    f.unstarted_since,
    f.updated_at
from pgreact.route r
left join pgreact.flight f on f.route_id = r.id
order by r.name
