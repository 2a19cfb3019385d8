-- PostgreSQL takes abbreviations and offsets, too, which know no daylight saving time.
create or replace function pgreact.check_timezone(zone text) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if zone = 'UTC' then
        return;
    end if;
    perform timezone(zone, now());
    if zone !~ '^[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$'
        or strpos(zone, '/') = 0
            -- these are abbreviations or offsets, and names nevertheless
            and zone !~ '^(CET|EET|EST|GMT|HST|MET|MST|UCT|WET|[CEMP]ST[5-8][CEMP]DT|GMT[+-]?0)$'
            and (zone ~ '\d' or exists (select from pg_timezone_abbrevs a where a.abbrev = upper(zone)))
    then
        raise invalid_parameter_value;
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
