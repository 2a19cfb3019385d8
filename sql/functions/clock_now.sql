-- The one clock of the timetable, which tests turn by hand.
create or replace function pgreact.clock_now() returns timestamptz
    language sql
    set search_path = pg_catalog, pg_temp
as $$
select clock_timestamp()
$$;
comment on function pgreact.clock_now() is 'now, as the timetable sees it';
revoke all on function pgreact.clock_now() from public;
