-- Deletes rows of the history that are older than their schedule's retention, and all rows of schedules without one or
-- deleted. One call reads 100 schedules and deletes 1,000 rows at most, so that nothing waits for it; locked rows are left for
-- the next round. A call begins where the last ended: the index still has the entries of deleted rows.
create or replace function pgreact.maintain_schedule_history(after_schedule text, after_fired_at text)
    returns table (last_schedule text, last_fired_at text)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    looked_at text := after_schedule;
    since timestamptz := after_fired_at::timestamptz;
    room integer := 1000;
    removed integer;
    newest timestamptz;
    kept interval;
begin
    for step in 1..100 loop
        -- a schedule with rows left goes on
        if since is null then
            looked_at := (
                select h.schedule from pgreact.schedule_history h where h.schedule > looked_at order by h.schedule limit 1
            );
            if looked_at is null then
                return;
            end if;
        end if;
        kept := coalesce((select s.retention from pgreact.schedule s where s.name = looked_at), interval '0');
        with old as materialized (
            select h.ctid as place, h.fired_at
            from pgreact.schedule_history h
            where h.schedule = looked_at and h.fired_at >= coalesce(since, '-infinity')
                and h.fired_at < now() - least(greatest(kept, interval '0'), interval '3650 days')
            order by h.fired_at
            limit room
            for update skip locked
        ),
        gone as (
            delete from pgreact.schedule_history h
            where h.ctid = any (array(select o.place from old o))
        )
        select count(*), max(o.fired_at) into removed, newest
        from old o;
        if removed = room then
            return query select looked_at, newest::text;
            return;
        end if;
        room := room - removed;
        since := null;
    end loop;
    return query select looked_at, null::text;
end
$$;
comment on function pgreact.maintain_schedule_history(text, text)
    is 'deletes some expired history of schedules, and returns where it ended; no row: at the end';
revoke all on function pgreact.maintain_schedule_history(text, text) from public;
