-- A worker's transaction, which lasts until its task is done, and a try for one lock.
-- Read committed keeps no snapshot between two statements, so vacuum is not held back; read write fails on a
-- replica, whose locks are nobody else's. All settings end with the transaction: behind a pooler the session
-- is somebody else's then. Not every version knows all of them.
begin isolation level read committed, read write;
select set_config(name, value, true)
from (
    values
        ('idle_in_transaction_session_timeout', '0'),
        ('transaction_timeout', '0'),
        ('statement_timeout', '0'),
        ('lock_timeout', %(timeout_ms)s),
        -- a backend that waits in a lock otherwise never looks whether its client is still there
        ('client_connection_check_interval', '2000'),
        ('tcp_keepalives_idle', '4'),
        ('tcp_keepalives_interval', '2'),
        ('tcp_keepalives_count', '3'),
        ('tcp_user_timeout', '10000')
) as setting (name, value)
where current_setting(name, true) is not null;
select pg_try_advisory_xact_lock(%(lock)s, %(route)s)
