select max_in_progress, extract(epoch from lease)::float8 as lease, extract(epoch from retention)::float8 as retention,
    extract(epoch from dead_retention)::float8 as dead_retention,
    extract(epoch from start_within)::float8 as start_within,
    extract(epoch from canary)::float8 as canary, canary_queue
from pgreact.queue_setting
