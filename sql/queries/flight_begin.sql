-- Begins a worker's transaction, which lasts until its task is done, and tries to take one lock.
-- Read committed keeps no snapshot between two statements, so vacuum is not held back. Read write fails on a
-- replica, which does not share its locks. All settings end with the transaction, since behind a pooler the
-- session then serves another client. Not every version has all of them.
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
