select s.lease_s, s.started, s.held, s.ignored
from pgreact.settle_and_start(%(done)s::bigint[], %(done_claims)s::uuid[], %(ago_s)s::float8[], %(run_s)s::float8[],
    %(next)s::bigint[], %(next_claims)s::uuid[], %(worker)s, %(publish_s)s) s
