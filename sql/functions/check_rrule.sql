-- What a look at the text can tell; the leader has a library that knows the rest.
create or replace function pgreact.check_rrule(rrule text) returns void
    language plpgsql
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    part text;
    wrong text;
    seen text[] := '{}';
begin
    foreach part in array string_to_array(regexp_replace(upper(btrim(rrule)), '^RRULE:', ''), ';') loop
        wrong := case
            when part !~ '^[A-Z]+=.' then format('"%s" is no part like FREQ=DAILY', part)
            when split_part(part, '=', 1) = any (seen) then format('%s stands twice', split_part(part, '=', 1))
            else case split_part(part, '=', 1)
                when 'FREQ' then case
                    when part in ('FREQ=MINUTELY', 'FREQ=SECONDLY') then part || ' is what every and cron are for'
                    when part !~ '=(YEARLY|MONTHLY|WEEKLY|DAILY|HOURLY)$'
                        then part || ' is not one of YEARLY, MONTHLY, WEEKLY, DAILY and HOURLY'
                end
                when 'INTERVAL' then case when part !~ '=0*[1-9]\d{0,5}$' then part || ' is no number from 1 on' end
                when 'COUNT' then case when part !~ '=0*[1-9]\d{0,8}$' then part || ' is no number from 1 on' end
                when 'UNTIL' then case when part !~ '=\d{8}(T\d{6}Z?)?$' then part || ' is no time like 20301231T235959Z' end
                when 'WKST' then case when part !~ '=(MO|TU|WE|TH|FR|SA|SU)$' then part || ' is no day like MO' end
                when 'BYDAY' then case
                    when part !~ '=[+-]?\d{0,2}(MO|TU|WE|TH|FR|SA|SU)(,[+-]?\d{0,2}(MO|TU|WE|TH|FR|SA|SU))*$'
                        then part || ' is no list of days like MO,FR or -1FR'
                end
                when 'BYMONTH' then case
                    when part !~ '=(0?[1-9]|1[0-2])(,(0?[1-9]|1[0-2]))*$' then part || ' is no list of months, 1 to 12'
                end
                when 'BYHOUR' then case
                    when part !~ '=([01]?\d|2[0-3])(,([01]?\d|2[0-3]))*$' then part || ' is no list of hours, 0 to 23'
                end
                when 'BYMINUTE' then case
                    when part !~ '=[0-5]?\d(,[0-5]?\d)*$' then part || ' is no list of minutes, 0 to 59'
                end
                when 'BYSECOND' then case
                    when part !~ '=[0-5]?\d(,[0-5]?\d)*$' then part || ' is no list of seconds, 0 to 59'
                end
                when 'DTSTART' then 'DTSTART is the column anchor'
                else case
                    when split_part(part, '=', 1) not in ('BYMONTHDAY', 'BYYEARDAY', 'BYWEEKNO', 'BYSETPOS', 'BYEASTER')
                        then format('there is no "%s"', split_part(part, '=', 1))
                    when part !~ '=[+-]?\d{1,3}(,[+-]?\d{1,3})*$' then part || ' is no list of numbers'
                end
            end
        end;
        if wrong is not null then
            exit;
        end if;
        seen := seen || split_part(part, '=', 1);
    end loop;
    if wrong is null and not coalesce('FREQ' = any (seen), false) then
        wrong := 'FREQ is missing';
    end if;
    if wrong is null and 'COUNT' = any (seen) and 'UNTIL' = any (seen) then
        wrong := 'COUNT and UNTIL exclude each other';
    end if;
    if wrong is not null then
        raise exception 'rrule "%": %', rrule, wrong
            using errcode = 'invalid_parameter_value',
                hint = 'It is RFC 5545''s, like FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17;BYMINUTE=0;BYSECOND=0.';
    end if;
end
$$;
comment on function pgreact.check_rrule(text) is 'refuses what is no recurrence rule';
revoke all on function pgreact.check_rrule(text) from public;
