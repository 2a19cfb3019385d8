-- Tests each day from the beginning on, a year at a time, until one matches or the timetable's calendar ends. Most rules match
-- in the first year.
create or replace function pgreact.rrule_occurs(parts jsonb, begin timestamp, until timestamp) returns boolean
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
declare
    first constant date := begin::date;
    names constant text[] := '{MO,TU,WE,TH,FR,SA,SU}';
    freq constant text := parts ->> 'FREQ';
    step constant integer := coalesce((parts ->> 'INTERVAL')::integer, 1);
    wkst constant integer := array_position(names, coalesce(parts ->> 'WKST', 'MO')) - 1;
    positions constant integer[] := string_to_array(parts ->> 'BYSETPOS', ',')::integer[];
    weeks constant integer[] := string_to_array(parts ->> 'BYWEEKNO', ',')::integer[];
    year_days constant integer[] := string_to_array(parts ->> 'BYYEARDAY', ',')::integer[];
    months integer[] := string_to_array(parts ->> 'BYMONTH', ',')::integer[];
    month_days integer[] := string_to_array(parts ->> 'BYMONTHDAY', ',')::integer[];
    days integer[];
    nth_days text[];
    hours integer[] := string_to_array(parts ->> 'BYHOUR', ',')::integer[];
    minutes constant integer[] := coalesce(string_to_array(parts ->> 'BYMINUTE', ',')::integer[],
        array[extract(minute from begin)::integer]);
    seconds constant integer[] := coalesce(string_to_array(parts ->> 'BYSECOND', ',')::integer[],
        array[extract(second from begin)::integer]);
    times integer;
    begun_week constant date := first - (extract(isodow from first)::integer - 1 - wkst + 7) % 7;
    place date := case when freq = 'WEEKLY' then begun_week else make_date(extract(year from first)::integer, 1, 1) end;
    ending date;
    -- the timetable seeks as many centuries later, where its library's calendar ends soon
    last constant date := least(until::date,
        make_date(9999 - 400 * ((9899 - extract(year from first)::integer) / 400), 12, 31));
begin
    select array_agg(array_position(names, d) - 1) filter (where d !~ '[0-9]'), array_agg(d) filter (where d ~ '[0-9]')
    into days, nth_days
    from string_to_table(parts ->> 'BYDAY', ',') d;
    -- missing parts are taken from the beginning
    if coalesce(weeks, year_days, month_days, days) is null and nth_days is null then
        if freq = 'YEARLY' then
            months := coalesce(months, array[extract(month from first)::integer]);
        end if;
        if freq in ('YEARLY', 'MONTHLY') then
            month_days := array[extract(day from first)::integer];
        elsif freq = 'WEEKLY' then
            days := array[extract(isodow from first)::integer - 1];
        end if;
    end if;
    if freq = 'HOURLY' then
        hours := coalesce(hours, array(select generate_series(0, 23)));
    else
        hours := coalesce(hours, array[extract(hour from begin)::integer]);
    end if;
    select count(distinct h) into times from unnest(hours) h;
    times := times * (select count(distinct m) from unnest(minutes) m) * (select count(distinct s) from unnest(seconds) s);
    while place <= last loop
        ending := case when freq = 'WEEKLY' then place + 363 else place + interval '1 year' - interval '1 day' end;
        if freq = 'YEARLY' and (extract(year from place)::integer - extract(year from first)::integer) % step <> 0 then
            place := ending + 1;
            continue;
        end if;
        if exists (
            with day as (
                select
                    d.day,
                    case freq
                        when 'YEARLY' then y.year
                        when 'MONTHLY' then y.year * 12 + y.month
                        when 'WEEKLY' then (w.week - '0001-01-01') / 7
                        else d.day - '0001-01-01'
                    end as period
                from (select place + n as day from generate_series(0, ending - place) n) d
                cross join lateral (
                    select extract(year from d.day)::integer as year, extract(month from d.day)::integer as month,
                        extract(day from d.day)::integer as month_day, extract(doy from d.day)::integer as year_day,
                        extract(isodow from d.day)::integer - 1 as weekday
                ) y
                cross join lateral (select d.day - (y.weekday - wkst + 7) % 7 as week) w
                where (months is null or y.month = any (months))
                    and (days is null or y.weekday = any (days))
                    and (month_days is null or y.month_day = any (month_days) or y.month_day - extract(day from
                        make_date(y.year, y.month, 1) + interval '1 month' - interval '1 day')::integer - 1 = any (month_days))
                    and (year_days is null or y.year_day = any (year_days)
                        or y.year_day - extract(doy from make_date(y.year, 12, 31))::integer - 1 = any (year_days))
                    and (nth_days is null or exists (
                        select
                        from unnest(nth_days) n
                        cross join lateral (
                            select
                                case when freq = 'YEARLY' and months is null then make_date(y.year, 1, 1)
                                    else make_date(y.year, y.month, 1) end as begins,
                                case when freq = 'YEARLY' and months is null then make_date(y.year, 12, 31)
                                    else (make_date(y.year, y.month, 1) + interval '1 month' - interval '1 day')::date end as ends
                        ) r
                        where y.weekday = array_position(names, right(n, 2)) - 1
                            and left(n, -2)::integer in ((d.day - r.begins) / 7 + 1, -((r.ends - d.day) / 7 + 1))
                    ))
                    and (weeks is null or (
                        select
                            k.number = any (weeks)
                            or k.year = y.year and k.number - k.count - 1 = any (weeks)
                            or k.year = y.year - 1 and k.number = k.count and -1 = any (weeks)
                        from (
                            -- a week belongs to the year of its fourth day; 28 December is always in the last week
                            select extract(year from w.week + 3)::integer as year,
                                (extract(doy from w.week + 3)::integer - 1) / 7 + 1 as number,
                                (extract(doy from x.last - (extract(isodow from x.last)::integer - 1 - wkst + 7) % 7 + 3)::integer
                                    - 1) / 7 + 1 as count
                            from (select make_date(extract(year from w.week + 3)::integer, 12, 28) as last) x
                        ) k
                    ))
                    and case freq
                        when 'MONTHLY' then (y.year * 12 + y.month - extract(year from first)::integer * 12
                            - extract(month from first)::integer) % step = 0
                        when 'WEEKLY' then d.day >= first and (w.week - begun_week) / 7 % step = 0
                        when 'DAILY' then (d.day - first) % step = 0
                        when 'HOURLY' then exists (
                            select from unnest(hours) h
                            where ((d.day - first) * 24 + h - extract(hour from begin)::integer) % step = 0
                        )
                        else true
                    end
            ),
            matching as (
                select day from day where positions is null
                union all
                select p.days[case when n > 0 then (n - 1) / times + 1 else cardinality(p.days) - (-n - 1) / times end]
                from (select array_agg(day order by day) as days from day where positions is not null group by period) p
                cross join unnest(positions) n
                where abs(n) <= cardinality(p.days) * times
            )
            select
            from matching m
            -- on the first and the last day, one of the times must lie between the beginning and the end
            where m.day > first and (until is null or m.day < until::date) or exists (
                select
                from unnest(hours) h
                cross join unnest(minutes) n
                cross join unnest(seconds) s
                cross join lateral (select m.day + make_time(h, n, s) as at) t
                where t.at >= begin
                    and (until is null or t.at <= until)
                    and (freq <> 'HOURLY' or ((m.day - first) * 24 + h - extract(hour from begin)::integer) % step = 0)
            )
        ) then
            return true;
        end if;
        place := ending + 1;
    end loop;
    return false;
end
$$;
comment on function pgreact.rrule_occurs(jsonb, timestamp, timestamp)
    is 'whether a recurrence rule with valid parts matches any moment from its beginning to its end';
revoke all on function pgreact.rrule_occurs(jsonb, timestamp, timestamp) from public;
