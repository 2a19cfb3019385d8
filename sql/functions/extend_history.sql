-- Makes the history's partitions, by day of UTC: two days ahead, and those of days whose attempts are in history_rest. A
-- partition is made by itself and then attached: that locks the history against nothing but other changes of the schema.
create or replace function pgreact.extend_history() returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '100ms'
as $$
declare
    retention interval := (select s.retention from pgreact.queue_setting s);
    today date := (now() at time zone 'UTC')::date;
    missing date[];
    day date;
    name text;
begin
    if retention is null then
        return true;
    end if;
    select array_agg(d.day order by d.day) into missing
    from (
        select today + n as day from generate_series(0, 2) n
        union
        -- of the first of these, as many as maintain_history moves
        select (f.settled_at at time zone 'UTC')::date
        from (
            select r.settled_at
            from pgreact.history_rest r
            where r.settled_at >= now() - retention
            order by r.settled_at
            limit 10000
        ) f
    ) d
    where to_regclass('pgreact.history_' || to_char(d.day, 'YYYYMMDD')) is null;
    if missing is null then
        return true;
    end if;
    lock table only pgreact.history in share update exclusive mode;
    foreach day in array missing loop
        name := 'history_' || to_char(day, 'YYYYMMDD');
        if to_regclass('pgreact.' || name) is null then  -- another session may have made it before we had the lock
            execute format('create table pgreact.%I (like pgreact.history including all)', name);
            execute format('alter table pgreact.history attach partition pgreact.%I for values from (%L) to (%L)',
                name, to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00', to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00');
        end if;
    end loop;
    return true;
exception
    when lock_not_available then
        return false;
end
$$;
comment on function pgreact.extend_history() is 'makes the history''s partitions that are missing; false: try again, another transaction is at it';
revoke all on function pgreact.extend_history() from public;
