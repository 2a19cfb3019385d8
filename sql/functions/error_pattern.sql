-- The first line of an error; numbers, ids and quoted values are replaced by #, so that errors that differ in these are one.
create or replace function pgreact.error_pattern(error text) returns text
    language sql
    immutable
    strict
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select regexp_replace(left(split_part(error, chr(10), 1), 200),
        '"[^"]*"|`[^`]*`|(?<![[:alnum:]])''[^'']*''|[0-9A-Fa-f-]{8,}|0x[0-9A-Fa-f]+|[0-9]+(?:[.:][0-9]+)*', '#', 'g')
$$;
comment on function pgreact.error_pattern(text) is 'an error''s first line with # in place of numbers, ids and quoted values';
revoke all on function pgreact.error_pattern(text) from public;
