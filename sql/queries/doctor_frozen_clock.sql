-- How far pgreact's clock, which tests may replace, is ahead of the server's.
select extract(epoch from pgreact.clock_now() - clock_timestamp())::float8 as ahead_s
