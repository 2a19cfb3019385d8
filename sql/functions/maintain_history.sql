-- Housekeeping: makes the history's partitions, drops those that are too old, and forgets dead jobs. It waits 100 ms at most
-- for a lock, and does little at a time: a settlement that comes meanwhile stands behind its request for a lock.
create or replace function pgreact.maintain_history() returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '100ms'
as $$
declare
    batch constant integer := 10000;  -- rows, and so a tenth of a second or so
    setting pgreact.queue_setting := (select s from pgreact.queue_setting s);
    since timestamptz := now() - coalesce(setting.retention, interval '0');
    complete boolean := pgreact.extend_history();
    moved integer;
    old text[];
    part text;
begin
    -- What waited for a partition goes there.
    with taken as materialized (
        select r.id, r.settled_at
        from pgreact.history_rest r
        where r.settled_at < since or complete
        order by r.settled_at
        limit batch
        for update skip locked
    ),
    gone as (
        delete from pgreact.history_rest r using taken t where r.id = t.id and r.settled_at = t.settled_at returning r.*
    ),
    kept as (
        insert into pgreact.history select g.* from gone g where g.settled_at >= since
    )
    select count(*) into moved from gone;
    complete := complete and moved < batch;

    if setting.dead_retention is not null then
        delete from pgreact.dead d
        where d.id in (
            select o.id
            from pgreact.dead o
            where o.died_at < now() - setting.dead_retention
            order by o.died_at
            limit batch
            for update skip locked
        );
        get diagnostics moved = row_count;
        complete := complete and moved < batch;
    end if;

    -- Last, since it locks the whole history until the commit.
    select array_agg(c.oid::regclass::text) into old
    from pg_inherits i
    join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'pgreact.history'::regclass
        and c.relname ~ '^history_[0-9]{8}$'
        and to_date(right(c.relname, 8), 'YYYYMMDD') + 1 <= (since at time zone 'UTC')::date;
    if old is not null then
        begin
            -- Nobody writes the old ones. If somebody reads one, then nothing that the writers need is locked in vain.
            foreach part in array old loop
                execute format('lock table %s in access exclusive mode nowait', part);
            end loop;
            lock table only pgreact.history in access exclusive mode;
            execute format('drop table %s', array_to_string(old, ', '));
        exception
            when lock_not_available then
                complete := false;
        end;
    end if;
    return complete;
end
$$;
comment on function pgreact.maintain_history()
    is 'keeps the house of history and dead jobs; false: a lock was not free, or there is more to do: call it again in a minute';
revoke all on function pgreact.maintain_history() from public;
