-- The clock of queue and timetable, in one place so that pgreact.testing.freeze can replace it.
-- The planner puts its body in place of each call, so it costs what clock_timestamp() costs. A SET clause would prevent that, and is
-- not needed: the body is bound to its function when it is created, whatever the search_path of a caller.
create or replace function pgreact.clock_now() returns timestamptz
    language sql
    volatile
    parallel safe
return pg_catalog.clock_timestamp();
comment on function pgreact.clock_now() is 'the current time of queue and timetable';
revoke all on function pgreact.clock_now() from public;
