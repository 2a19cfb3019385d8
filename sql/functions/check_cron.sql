-- Refuses a text that is not a cron expression, and one that never occurs. The cases:
--   plain fields     the most frequent form: accepted at once
--   @name            one of seven
--   five fields, six with seconds first; each a list of: * n a-b, with /step; months and days of the week by name too;
--   L and LW as day of month; 5L (the last Friday) and 5#2 (the second) as day of week
-- The leader computes the times.
create or replace function pgreact.check_cron(cron text, cron_and boolean) returns void
    language plpgsql
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    names constant text[] := array['second', 'minute', 'hour', 'day of month', 'month', 'day of week'];
    lowest constant integer[] := array[0, 0, 0, 1, 1, 0];
    highest constant integer[] := array[59, 59, 23, 31, 12, 7];
    months constant text := '^(jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sep(tember)?|oct(ober)?'
        '|nov(ember)?|dec(ember)?)$';
    days constant text := 'sun(day)?|mon(day)?|tue(sday)?|wed(nesday)?|thu(rsday)?|fri(day)?|sat(urday)?';
    trimmed constant text := lower(btrim(cron, E' \t\r\n'));
    fields text[];
    field text;
    item text;
    part text;
    matched text[];
    place integer;
    wrong text;
begin
    -- the most frequent form; thousands may be checked at once
    if cron ~ '^([*]|[0-5]?[0-9])(/[1-9][0-9]?)? ([*]|1?[0-9]|2[0-3])(/[1-9][0-9]?)? [*]( [*]| [1-9]) ([*]|[0-6])$' then
        return;
    end if;
    if trimmed in ('@yearly', '@annually', '@monthly', '@weekly', '@daily', '@midnight', '@hourly') then
        return;
    end if;
    if trimmed like '@%' then
        raise exception 'cron "%": no such name', cron
            using errcode = 'invalid_parameter_value',
                hint = 'Names are @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually.';
    end if;
    fields := regexp_split_to_array(trimmed, '[[:space:]]+');
    if cardinality(fields) not in (5, 6) then
        raise exception 'cron "%" has % fields', cron, case when trimmed = '' then 0 else cardinality(fields) end
            using errcode = 'invalid_parameter_value',
                hint = 'It has five (minute, hour, day of month, month, day of week), or six with seconds first.';
    end if;
    for n in 1..cardinality(fields) loop
        place := n + 6 - cardinality(fields);
        field := fields[n];
        foreach item in array string_to_array(field, ',') loop
            wrong := null;
            if place = 4 and item ~ '^lw?(/0*[1-9][0-9]*)?$' or place = 6 and item ~ ('^(0*[0-7]|' || days || ')l$') then
                continue;
            end if;
            matched := regexp_match(item, '^([*]|[0-9a-z]+)(?:-([0-9a-z]+))?(?:/([0-9]+))?$');
            if place = 6 and item ~ '^[0-9a-z]+#[1-5]$' then
                matched := array[split_part(item, '#', 1), null, null];
            end if;
            if matched is null or matched[1] = '*' and matched[2] is not null then
                wrong := format('invalid %s "%s"', names[place], item);
            elsif matched[3]::numeric = 0 then
                wrong := format('"%s" has a step of 0', item);
            else
                foreach part in array array_remove(matched[1:2], null) loop
                    if part <> '*' and not (place = 5 and part ~ months or place = 6 and part ~ ('^(' || days || ')$')) then
                        if part !~ '^[0-9]+$' then
                            wrong := format('invalid %s "%s"', names[place], part);
                        elsif part::numeric not between lowest[place] and highest[place] then
                            wrong := format('%s %s is not between %s and %s', names[place], part, lowest[place],
                                highest[place]);
                        end if;
                    end if;
                end loop;
            end if;
            if wrong is not null then
                raise exception 'cron "%": %', cron, wrong
                    using errcode = 'invalid_parameter_value',
                        hint = 'Fields are minute, hour, day of month, month, day of week, with *, lists (1,15), ranges '
                            '(mon-fri) and steps (*/10); a sixth, in front, is seconds.';
            end if;
        end loop;
        if field = '' or field ~ '^,|,,|,$' then
            raise exception 'cron "%": invalid % "%"', cron, names[place], field
                using errcode = 'invalid_parameter_value', hint = 'Write a comma between two values only.';
        end if;
    end loop;
    fields := fields[cardinality(fields) - 2:];
    -- in cron either day matches, unless one of the two fields begins with a star
    if fields[1] <> '*' and (cron_and or fields[1] like '*%' or fields[3] like '*%')
        and not pgreact.cron_occurs(fields[1], fields[2], fields[3])
    then
        raise exception 'cron "%" never occurs', cron
            using errcode = 'invalid_parameter_value',
                hint = format('No day is "%s" as day of month, "%s" as month and "%s" as day of week.', variadic fields);
    end if;
end
$$;
comment on function pgreact.check_cron(text, boolean) is 'refuses a text that is not a cron expression, and one that never occurs';
revoke all on function pgreact.check_cron(text, boolean) from public;
