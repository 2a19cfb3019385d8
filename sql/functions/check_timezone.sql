-- Refuses all but an IANA name in its own case, which is what Python's zoneinfo takes. PostgreSQL also takes:
--   abbreviations, offsets   without daylight saving time: refused, except those that are IANA names, too (EST, GMT+1)
--   names in another case    refused; the setting timezone shows the name as it should be written
create or replace function pgreact.check_timezone(zone text) returns void
    language plpgsql
    strict
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
as $$
declare
    known text;
begin
    -- without a query, which would cost more than the rest
    if zone ~ '^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$' then
        begin
            perform set_config('timezone', zone, true);
            known := current_setting('timezone');
        exception
            when invalid_parameter_value then
                null;
        end;
    end if;
    -- the listed ones are abbreviations or offsets, and IANA names
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
comment on function pgreact.check_timezone(text) is 'refuses a time zone that has no IANA name';
revoke all on function pgreact.check_timezone(text) from public;
