insert into job_queue (payload)
select jsonb_build_object('seconds', 0.02 + 0.06 * random())
from generate_series(1, %(jobs)s)
returning id, pg_current_xact_id()::xid::text
