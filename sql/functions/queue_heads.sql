-- The first ready job of each priority of each lane, in the order of the index queue_ready; null: more than 1,000 priorities.
--
-- Index entries of claimed jobs stay until vacuum, and vacuum keeps them while any session has an older snapshot: a read from the first
-- entry on passes all of them. A floor is the place at which an earlier claim found the first job, so this reads from there on, and
-- between floors. It misses a job before its floor, of a transaction that committed late, say; a claim finds it that reads without
-- floors, as it must soon.
--
-- floors: from an earlier call; '{}': read from the first entry on. A floor without a job behind it stays, with live = false.
-- freed_since: adds single jobs before their floors, which became ready since then: their key or a worker held them up.
create or replace function pgreact.queue_heads(floors pgreact.queue_head[], freed_since timestamptz default null)
    returns pgreact.queue_head[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    most constant integer := 1000;
    above constant bigint := 2147483648;  -- the highest priority + 1
    below constant bigint := -2147483649;
    heads pgreact.queue_head[] := '{}';
    head pgreact.queue_head;
    next_floor pgreact.queue_head;
    last_lane text := '';
    last_priority bigint := above;
begin
    for next_floor in
        select f.*
        from (select u.* from unnest(floors) u where not u.single union all select null, null, null, null, null, null) f
        order by f.lane, f.priority desc  -- nulls last: the end
    loop
        -- priorities and lanes without a floor
        loop
            select q.lane, q.priority, q.run_at, q.id, true, false
            into head
            from pgreact.queue q
            where q.state = 'ready' and q.lane = last_lane and q.priority < last_priority
                and q.priority > case when next_floor.lane = last_lane then next_floor.priority else below end
            order by q.priority desc, q.run_at, q.id
            limit 1;
            if not found then
                exit when next_floor.lane = last_lane;
                if next_floor.lane is null then
                    select q.lane, q.priority, q.run_at, q.id, true, false
                    into head
                    from pgreact.queue q
                    where q.state = 'ready' and q.lane > last_lane
                    order by q.lane, q.priority desc, q.run_at, q.id
                    limit 1;
                    exit when not found;
                else
                    select q.lane, q.priority, q.run_at, q.id, true, false
                    into head
                    from pgreact.queue q
                    where q.state = 'ready' and q.lane > last_lane and q.lane < next_floor.lane
                    order by q.lane, q.priority desc, q.run_at, q.id
                    limit 1;
                    if not found then
                        last_lane := next_floor.lane;
                        last_priority := above;
                        continue;
                    end if;
                end if;
            end if;
            heads := heads || head;
            if cardinality(heads) > most then
                return null;
            end if;
            last_lane := head.lane;
            last_priority := head.priority;
        end loop;
        exit when next_floor.lane is null;
        select q.lane, q.priority, q.run_at, q.id, true, false
        into head
        from pgreact.queue q
        where q.state = 'ready' and q.lane = next_floor.lane and q.priority = next_floor.priority
            and (q.run_at, q.id) >= (next_floor.run_at, next_floor.id)
        order by q.run_at, q.id
        limit 1;
        if not found then
            next_floor.live := false;
            head := next_floor;
        end if;
        heads := heads || head;
        last_lane := next_floor.lane;
        last_priority := next_floor.priority;
    end loop;
    if freed_since is null then
        return heads;
    end if;
    return heads || array(
        select row(f.lane, f.priority, f.run_at, f.id, true, true)::pgreact.queue_head
        from (
            select q.lane, q.priority, q.run_at, q.id
            from pgreact.queue q
            where q.state = 'ready' and q.ready_at > freed_since and q.lane is not null
            order by q.ready_at
            limit most
        ) f
        where not exists (
            select
            from unnest(heads) h
            where h.lane = f.lane and h.priority = f.priority and (h.run_at, h.id) <= (f.run_at, f.id)
        )
    );
end
$$;
comment on function pgreact.queue_heads(pgreact.queue_head[], timestamptz) is 'the first ready job of each priority of each lane';
revoke all on function pgreact.queue_heads(pgreact.queue_head[], timestamptz) from public;
