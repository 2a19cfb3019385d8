-- The migrations that have run, and the functions as one more.
select name, checksum from pgreact.migration
