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
    origin
from pgreact.route
order by id
