-- The one clock of the timetable, which tests turn by hand.
create or replace function pgreact.moment() returns timestamptz
    language sql
    set search_path = pg_catalog, pg_temp
as $$
select clock_timestamp()
$$;
comment on function pgreact.moment() is 'now, as the timetable sees it';
revoke all on function pgreact.moment() from public;
