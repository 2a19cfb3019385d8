-- 1885827685 is 'pgre' in ASCII: unlikely to collide with another application's locks.
create or replace function pgreact.lock_class(purpose text) returns integer
    language sql
    immutable strict parallel safe
    set search_path = pg_catalog, pg_temp
as $$
select case purpose
    when 'leader' then 1885827685  -- object 0: held by the session of the leader
    when 'guard' then 1885827686   -- object 0: held by the leader's second session, until its last publish has ended
    when 'apply' then 1885827687   -- object 0: held by the transactions of "pgreact apply"
    when 'timetable' then 1885827692  -- object 0: held by the session that fires schedules
    when 'run' then 1885827690     -- object route id: held by the transaction around a worker's run
    when 'freeze' then 1885827693  -- object 0: held while pgreact.testing.freeze replaces the clock
    when 'next' then 1885827691    -- object route id: held by the one worker that waits to run
end
$$;
comment on function pgreact.lock_class(text) is 'the first number of an advisory lock (class, object) of pgreact';
revoke all on function pgreact.lock_class(text) from public;
