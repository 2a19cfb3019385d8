select pgreact.enqueue('proj.tasks.send_email', kwargs => jsonb_build_object('user_id', user_id, 'seconds', %(seconds)s::float8), lane => %(lane)s),
    pg_current_xact_id()::xid::text
from generate_series(1, %(jobs)s) user_id
