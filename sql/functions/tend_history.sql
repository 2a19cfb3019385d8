-- Partitions by day, made two days ahead, dropped when all of one is too old.
create or replace function pgreact.tend_history() returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    keep interval := (select s.keep from pgreact.queue_setting s);
    today date := (now() at time zone 'UTC')::date;
    day date;
    part record;
begin
    if keep is not null then
        for day in select today + n from generate_series(0, 2) n loop
            if to_regclass('pgreact.history_' || to_char(day, 'YYYYMMDD')) is null
                -- those are in its way
                and not exists (
                    select
                    from pgreact.history_rest r
                    where r.settled_at >= day::timestamp at time zone 'UTC'
                        and r.settled_at < (day + 1)::timestamp at time zone 'UTC'
                )
            then
                execute format('create table if not exists pgreact.%I partition of pgreact.history for values from (%L) to (%L)',
                    'history_' || to_char(day, 'YYYYMMDD'), day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
            end if;
        end loop;
    end if;
    for part in
        select c.oid::regclass as name
        from pg_inherits i
        join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'pgreact.history'::regclass
            and c.relname ~ '^history_[0-9]{8}$'
            and to_date(right(c.relname, 8), 'YYYYMMDD') + 1 <= ((now() - coalesce(keep, interval '0')) at time zone 'UTC')::date
    loop
        execute format('drop table %s', part.name);
    end loop;
    delete from pgreact.history_rest r where r.settled_at < now() - coalesce(keep, interval '0');
end
$$;
comment on function pgreact.tend_history() is 'makes the history''s next partitions and drops those that are too old';
revoke all on function pgreact.tend_history() from public;
