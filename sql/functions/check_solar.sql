-- Refuses a text that is not EVENT LATITUDE LONGITUDE, and events that may never occur: beyond 89.5 degrees only solar_noon
-- happens each year. The leader computes the times.
create or replace function pgreact.check_solar(solar text) returns void
    language plpgsql
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    number constant text := '^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)$';
    words constant text[] := regexp_split_to_array(btrim(solar, E' \t\r\n'), '[[:space:]]+');
    wrong text;
begin
    if cardinality(words) <> 3 then
        wrong := 'is not an event, a latitude and a longitude';
    elsif lower(words[1]) !~ '^(sunrise|sunset|solar_noon|(dawn|dusk)_(astronomical|nautical|civil))$' then
        wrong := format('has no event "%s"', words[1]);
    elsif words[2] !~ number or words[2]::numeric not between -90 and 90 then
        wrong := format('has no latitude from -90 to 90, but "%s"', words[2]);
    elsif abs(words[2]::numeric) > 89.5 and lower(words[1]) <> 'solar_noon' then
        wrong := 'may never occur so near to a pole: use a latitude up to 89.5 degrees';
    elsif words[3] !~ number or words[3]::numeric not between -180 and 180 then
        wrong := format('has no longitude from -180 to 180, but "%s"', words[3]);
    end if;
    if wrong is not null then
        raise exception 'solar "%" %', solar, wrong
            using errcode = 'invalid_parameter_value',
                hint = 'Write it like "sunset 48.86 2.35". Events are sunrise, solar_noon, sunset, and dawn_ or dusk_ with civil, '
                    'nautical or astronomical.';
    end if;
end
$$;
comment on function pgreact.check_solar(text) is 'refuses a text that is not an event of the sun at a place';
revoke all on function pgreact.check_solar(text) from public;
