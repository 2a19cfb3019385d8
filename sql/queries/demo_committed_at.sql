select extract(epoch from pg_xact_commit_timestamp(%(xid)s::text::xid))::float8
