-- Each route with what its flight says of it.
select r.name, r.task, r.origin, extract(epoch from r.sweep)::float8 as sweep, r.single_flight, r.gate = 'closed' as always_closed,
    exists (select from pgreact.watched w where w.route_id = r.id) as watches,
    f.gate, f.error, f.in_flight_since is not null as in_flight,
    extract(epoch from clock_timestamp() - f.dirty_since)::float8 as dirty_s,
    extract(epoch from clock_timestamp() - f.unstarted_since)::float8 as unstarted_s
from pgreact.route r
left join pgreact.flight f on f.route_id = r.id
order by r.name
