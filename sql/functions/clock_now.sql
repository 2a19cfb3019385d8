-- The clock of the timetable, in one place so that tests can replace it.
create or replace function pgreact.clock_now() returns timestamptz
    language sql
    set search_path = pg_catalog, pg_temp
as $$
select clock_timestamp()
$$;
comment on function pgreact.clock_now() is 'the current time of the timetable';
revoke all on function pgreact.clock_now() from public;
