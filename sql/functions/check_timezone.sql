-- PostgreSQL takes abbreviations and offsets, too, which know no daylight saving time.
create or replace function pgreact.check_timezone(zone text) returns void
    language plpgsql
    strict
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- the first raises by itself; none of this runs a query, which would cost more than all of it
    if timezone(zone, now()) is null or zone !~ '^[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$' then
        raise invalid_parameter_value;
    end if;
    -- these are abbreviations or offsets, and names nevertheless
    if strpos(zone, '/') = 0 and zone !~ '^(CET|EET|EST|GMT|HST|MET|MST|UCT|WET|Zulu|[CEMP]ST[5-8][CEMP]DT|GMT[+-]?0)$' then
        if zone ~ '[0-9]' or exists (select from pg_timezone_abbrevs a where a.abbrev = upper(zone)) then
            raise invalid_parameter_value;
        end if;
    end if;
exception
    when invalid_parameter_value then
        raise exception 'no time zone "%"', zone
            using errcode = 'invalid_parameter_value',
                hint = 'Write an IANA name like Europe/Paris, or UTC, or Etc/GMT-1 for an hour east of it.';
end
$$;
comment on function pgreact.check_timezone(text) is 'refuses what is no IANA time zone';
revoke all on function pgreact.check_timezone(text) from public;
