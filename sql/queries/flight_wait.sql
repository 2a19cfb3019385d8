-- Waits for a lock until lock_timeout, which flight_begin set; true: held. A statement that waits holds a
-- snapshot, which holds back vacuum: so the wait is short, and the worker repeats it. The handler keeps the
-- transaction alive and the time-outs out of the server's log. It is a block and no function, since a
-- worker's role may have no rights in schema pgreact.
do $$
begin
    perform pg_advisory_xact_lock(%(lock)s, %(route)s);
exception
    when lock_not_available then
        null;
end
$$;
select pg_try_advisory_xact_lock(%(lock)s, %(route)s)
