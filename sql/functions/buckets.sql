-- Upper bounds, in seconds. A change makes older counts wrong: clear tally, tally_hour and tally_total with it.
create or replace function pgreact.buckets() returns double precision[]
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select array[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400]
        ::double precision[]
$$;
comment on function pgreact.buckets() is 'the upper bounds, in seconds, of the histograms in pgreact.tally';
revoke all on function pgreact.buckets() from public;
