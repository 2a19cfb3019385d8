-- Compares each day of the calendar with each day of the week, since some year has both together. The fields are valid.
create or replace function pgreact.cron_occurs(days text, months text, weekdays text) returns boolean
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
with term as (
    select f.place, f.low, f.high, f.size, t.item,
        f.place = 'day' and t.item ~ '^l' or f.place = 'weekday' and t.item ~ '(l|#[1-5])$' as special,
        regexp_match(t.item, '^([*]|[0-9a-z]+)(?:-([0-9a-z]+))?(?:/([0-9]+))?$') as parts
    from (values ('day', 1, 31, 31, days), ('month', 1, 12, 12, months), ('weekday', 0, 7, 7, weekdays))
        f (place, low, high, size, field)
    cross join lateral regexp_split_to_table(f.field, ',') t (item)
),
number as (
    select n.place, n.name, n.number
    from (
        select 'month', m.name, m.number
        from unnest('{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}'::text[]) with ordinality m (name, number)
        union all
        select 'weekday', d.name, d.number - 1
        from unnest('{sun,mon,tue,wed,thu,fri,sat}'::text[]) with ordinality d (name, number)
    ) n (place, name, number)
),
range as (
    select t.*, b.first,
        case
            when t.parts[2] is not null then b.last
            when t.parts[1] = '*' or t.parts[3] is not null then t.high  -- a step alone goes on to the highest
            else b.first
        end as last
    from term t
    cross join lateral (
        select
            case when t.parts[1] = '*' then t.low else coalesce(substring(t.parts[1] from '^[0-9]+$')::integer, (
                select n.number::integer from number n where n.place = t.place and n.name = left(t.parts[1], 3))) end as first,
            coalesce(substring(t.parts[2] from '^[0-9]+$')::integer, (
                select n.number::integer from number n where n.place = t.place and n.name = left(t.parts[2], 3))) as last
    ) b
    where not t.special
),
-- ranges wrap; Sunday is 0 and 7
value as (
    select r.place, case when r.place = 'weekday' then v % 7 else (v - 1) % r.size + 1 end as number
    from range r
    cross join lateral generate_series(
        r.first,
        r.last + case when r.last < r.first then r.size else 0 end,
        least(coalesce(r.parts[3], '1')::numeric, 100)::integer
    ) v
),
nth as (
    select
        coalesce(substring(t.item from '^[0-9]+')::integer % 7, (
            select n.number::integer from number n where n.place = 'weekday' and n.name = left(t.item, 3))) as weekday,
        substring(t.item from '#([1-5])$')::integer as week  -- null: the last
    from term t
    where t.place = 'weekday' and t.special
)
select exists (
    select
    from (values (1, 31), (2, 28), (2, 29), (3, 31), (4, 30), (5, 31), (6, 30), (7, 31), (8, 31), (9, 30), (10, 31), (11, 30),
        (12, 31)) m (month, length)
    cross join lateral generate_series(1, m.length) day
    cross join generate_series(0, 6) weekday
    where m.month in (select v.number from value v where v.place = 'month')
        and (
            day in (select v.number from value v where v.place = 'day')
            or days ~ '(^|,)l(/|,|$)' and day = m.length
            -- the last day from Monday to Friday
            or days ~ '(^|,)lw'
                and (weekday between 1 and 5 and day = m.length or weekday = 5 and day between m.length - 2 and m.length)
        )
        and (
            weekday in (select v.number from value v where v.place = 'weekday')
            or exists (
                select
                from nth n
                where n.weekday = weekday.weekday
                    and case when n.week is null then day > m.length - 7 else (day + 6) / 7 = n.week end
            )
        )
)
$$;
comment on function pgreact.cron_occurs(text, text, text)
    is 'whether any date matches day of month, month and day of week together';
revoke all on function pgreact.cron_occurs(text, text, text) from public;
