-- Each route as the daemon and apply read it; durations in seconds.
select
    id,
    name,
    task,
    extract(epoch from "window")::float8 as "window",
    extract(epoch from countdown)::float8 as countdown,
    extract(epoch from expires)::float8 as expires,
    extract(epoch from sweep)::float8 as sweep,
    single_flight,
    options::text as options,
    ready,
    gate,
    extract(epoch from gate_poll)::float8 as gate_poll,
    gate_close_rate,
    extract(epoch from gate_open_after)::float8 as gate_open_after,
    origin
from pgreact.route
order by id
