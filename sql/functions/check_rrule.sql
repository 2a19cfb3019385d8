-- Refuses a text that is not a rule of RFC 5545, parts that the timetable does not take (FREQ MINUTELY and SECONDLY, DTSTART),
-- parts that exclude each other, and a rule that never occurs. The leader computes the times, by dateutil.
create or replace function pgreact.check_rrule(rrule text, anchor timestamptz, zone text) returns void
    language plpgsql
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    -- the lowest and highest number of each part; negative numbers count from the end, and 0 is not allowed among them
    bounds constant jsonb := '{
        "BYHOUR": [0, 23], "BYMINUTE": [0, 59], "BYMONTH": [1, 12], "BYMONTHDAY": [-31, 31], "BYSECOND": [0, 59],
        "BYSETPOS": [-366, 366], "BYWEEKNO": [-53, 53], "BYYEARDAY": [-366, 366], "COUNT": [1, 100000],
        "INTERVAL": [1, 100000]}';
    part text;
    name text;
    value text;
    wrong text;
    seen jsonb := '{}';
    day date;
    until timestamp;
begin
    foreach part in array string_to_array(
        rtrim(regexp_replace(upper(btrim(rrule, E' \t\r\n')), '^RRULE:', ''), ';'), ';')
    loop
        name := btrim(split_part(part, '=', 1));
        value := btrim(substr(part, length(split_part(part, '=', 1)) + 2));
        if seen ? name then
            wrong := name || ' occurs twice';
        elsif bounds ? name then
            if value !~ '^[+-]?[0-9]{1,6}(,[+-]?[0-9]{1,6})*$' or name in ('COUNT', 'INTERVAL') and value ~ ',' then
                wrong := format('%s "%s" is not a number', name, value);
            elsif exists (
                select from unnest(string_to_array(value, ',')::integer[]) n
                where n not between (bounds -> name ->> 0)::integer and (bounds -> name ->> 1)::integer
                    or n = 0 and (bounds -> name ->> 0)::integer < 0)
            then
                wrong := format('%s %s is not between %s and %s', name, value,
                    case when (bounds -> name ->> 0)::integer < 0 then '1' else bounds -> name ->> 0 end,
                    (bounds -> name ->> 1)
                        || case when (bounds -> name ->> 0)::integer < 0 then ', or the same below zero' else '' end);
            end if;
        elsif name = 'FREQ' then
            wrong := case
                when value in ('MINUTELY', 'SECONDLY') then 'FREQ ' || value || ' is not supported: use every or cron'
                when value not in ('YEARLY', 'MONTHLY', 'WEEKLY', 'DAILY', 'HOURLY')
                    then format('FREQ "%s" is not one of YEARLY, MONTHLY, WEEKLY, DAILY and HOURLY', value)
            end;
        elsif name = 'WKST' then
            wrong := case when value !~ '^(MO|TU|WE|TH|FR|SA|SU)$' then format('WKST "%s" is not a day like MO', value) end;
        elsif name = 'BYDAY' then
            if value !~ '^([+-]?(0?[1-9]|[1-4][0-9]|5[0-3]))?(MO|TU|WE|TH|FR|SA|SU)(,([+-]?(0?[1-9]|[1-4][0-9]|5[0-3]))?(MO|TU|WE|TH|FR|SA|SU))*$'
            then
                wrong := format('BYDAY "%s" is not a list of days like MO,FR or -1FR', value);
            end if;
        elsif name = 'UNTIL' then
            begin
                day := to_date(left(value, 8), 'YYYYMMDD');
            exception
                when data_exception then
                    day := null;
            end;
            if day is null or value !~ '^[0-9]{8}(T([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]Z?)?$' or value ~ '^0000' then
                wrong := format('UNTIL "%s" is not a time like 20301231 or 20301231T235959Z', value);
            end if;
        elsif name = 'DTSTART' then
            wrong := 'DTSTART is not supported: set the column anchor';
        else
            wrong := format('unknown part "%s"', part);
        end if;
        if wrong is not null then
            exit;
        end if;
        seen := seen || jsonb_build_object(name, value);
    end loop;
    wrong := coalesce(wrong, case
        when not seen ? 'FREQ' then 'FREQ is missing'
        when seen ?& '{COUNT,UNTIL}' then 'COUNT and UNTIL exclude each other'
        when seen ? 'BYSETPOS' and seen ->> 'FREQ' = 'HOURLY' then 'BYSETPOS cannot be used with FREQ=HOURLY'
        when seen ->> 'BYDAY' ~ '[0-9]' and seen ->> 'FREQ' not in ('YEARLY', 'MONTHLY')
            then 'BYDAY takes numbers only with FREQ=YEARLY and MONTHLY'
        when seen ->> 'BYDAY' ~ '(^|[^0-9])(0?[6-9]|[1-9][0-9])[A-Z]' and (seen ->> 'FREQ' = 'MONTHLY' or seen ? 'BYMONTH')
            then 'a month has at most five of each day of the week'
    end);
    if wrong is not null then
        raise exception 'rrule "%": %', rrule, wrong
            using errcode = 'invalid_parameter_value',
                hint = 'Write it as in RFC 5545, like FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17;BYMINUTE=0;BYSECOND=0.';
    end if;
    -- most rules have one of these forms, which occur wherever they begin
    if not seen ?| '{BYYEARDAY,BYWEEKNO,BYSETPOS,UNTIL}' and (case
        when seen ?| '{BYMONTH,BYMONTHDAY}' then
            -- days that every month has
            not seen ? 'BYDAY'
            and seen ->> 'BYMONTHDAY' ~ '^[+-]?0?([1-9]|1[0-9]|2[0-8])(,[+-]?0?([1-9]|1[0-9]|2[0-8]))*$'
            and (seen ->> 'FREQ' = 'YEARLY'
                or seen ->> 'FREQ' = 'MONTHLY' and not (seen ? 'BYMONTH' and seen ? 'INTERVAL'))
        when seen ? 'BYDAY' then
            (seen ->> 'BYDAY' ~ '^[A-Z]+(,[A-Z]+)*$' or seen ->> 'BYDAY' ~ '^[+-]?0?[1-4][A-Z]+$')
            and (seen ->> 'FREQ' not in ('DAILY', 'HOURLY') or not seen ? 'INTERVAL')
        else
            seen ->> 'FREQ' <> 'HOURLY' or not seen ? 'BYHOUR' or not seen ? 'INTERVAL'
    end) then
        return;
    end if;
    if seen ? 'UNTIL' then
        value := seen ->> 'UNTIL';
        until := day + case when value ~ 'T' then substr(value, 10, 6)::time else time '23:59:59' end;
        if value like '%Z' then
            until := until at time zone 'UTC' at time zone zone;
        end if;
    end if;
    if not pgreact.rrule_occurs(seen, date_trunc('second', anchor at time zone zone), until) then
        raise exception 'rrule "%" never occurs', rrule
            using errcode = 'invalid_parameter_value',
                hint = format('It begins at %s in %s, and nothing matches from there on; the column anchor sets its beginning.',
                    to_char(anchor at time zone zone, 'YYYY-MM-DD HH24:MI:SS'), zone);
    end if;
end
$$;
comment on function pgreact.check_rrule(text, timestamptz, text) is 'refuses a text that is not a recurrence rule, and one that never occurs';
revoke all on function pgreact.check_rrule(text, timestamptz, text) from public;
