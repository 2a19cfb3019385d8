-- PostgreSQL takes abbreviations and offsets, too, which know no daylight saving time, and names in any case. What computes
-- with them takes names as they are written in the data of time zones, which the setting shows again.
create or replace function pgreact.check_timezone(zone text) returns void
    language plpgsql
    strict
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
as $$
declare
    known text;
begin
    -- none of this runs a query, which would cost more than all of it
    if zone ~ '^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$' then
        begin
            perform set_config('timezone', zone, true);
            known := current_setting('timezone');
        exception
            when invalid_parameter_value then
                null;
        end;
    end if;
    -- these are abbreviations or offsets, and names nevertheless
    if strpos(known, '/') = 0 and known !~ '^(CET|EET|EST|GMT|HST|MET|MST|UCT|WET|Zulu|[CEMP]ST[5-8][CEMP]DT|GMT[+-]?0)$'
        and (known ~ '[0-9]' or exists (select from pg_timezone_abbrevs a where a.abbrev = upper(known)))
        or known !~ '^[A-Z]'
    then
        known := null;
    end if;
    if zone is distinct from known then
        raise exception 'no time zone "%"', zone
            using errcode = 'invalid_parameter_value',
                hint = coalesce('Did you mean ' || known || '? The case of letters counts.',
                    'Write an IANA name like Europe/Paris, or UTC, or Etc/GMT-1 for an hour east of it.');
    end if;
end
$$;
comment on function pgreact.check_timezone(text) is 'refuses what is no IANA time zone';
revoke all on function pgreact.check_timezone(text) from public;
