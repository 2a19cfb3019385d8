-- Chooses the next jobs, for the claim and for its preview, pgreact.next_jobs; it only reads. Each lane's first jobs in its own
-- order, and of these the first by the lanes' virtual times: start-time fair queueing, within the rooms of lanes.
--
-- virtual_time: that of queue_state. exhausted: lanes that are left out. heads: from pgreact.queue_heads, where to read from; null: from
-- the first index entries on. passed: jobs that a preview has chosen before.
-- The other arguments are those of pgreact.lane_rooms.
--
-- Where one lane alone has ready jobs, as is usual, they are its first ones that have room: the general query costs twice as much.
-- The rows that it reads must not grow with lanes times places. So it reads each lane's first job; then up to its share of a lane
-- that may have a second job among the chosen; and the remainder only of lanes that used up their share.
create or replace function pgreact.choose_jobs(
    places integer, at timestamptz, virtual_time float8, rated text[], exhausted text[], lanes text[], used bigint[],
    unstarted bigint[], heads pgreact.queue_head[] default null, taken bigint[] default null, passed bigint[] default '{}')
    returns bigint[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    head record;
begin
    if heads is null then
        select f.lane, f.id,
            not exists (select from pgreact.queue q where q.state = 'ready' and q.lane > f.lane and q.id <> all (passed)) as alone,
            exists (
                select
                from pgreact.queue q
                join pgreact.task t on t.name = q.task and pgreact.is_short(t)
                where q.id = f.id
            ) as short
        into head
        from (
            select q.lane, q.id
            from pgreact.queue q
            where q.state = 'ready' and q.lane is not null and q.id <> all (passed)
            order by q.lane, q.priority desc, q.run_at, q.id
            limit 1
        ) f;
        if head.id is null then
            return null;
        elsif head.alone then
            return (
                select array_agg(j.id order by j.priority desc, j.run_at, j.id)
                from pgreact.lane_rooms(array[head.lane], at, rated, lanes, used, unstarted, taken,
                        case when head.short then array[head.lane] else '{}' end) r
                cross join lateral pgreact.lane_jobs(r.lane, null, 0, least(places, r.room), passed) j
                where not r.paused and r.room >= 1 and r.lane <> all (exhausted)
            );
        end if;
    end if;
    return (
        with recursive first (lane, id) as (
            (
                select q.lane, q.id
                from pgreact.queue q
                where heads is null and q.state = 'ready' and q.lane is not null and q.id <> all (passed)
                order by q.lane, q.priority desc, q.run_at, q.id
                limit 1
            )
            union all
            select f.lane, f.id
            from first n
            cross join lateral (
                select q.lane, q.id
                from pgreact.queue q
                where q.state = 'ready' and q.lane > n.lane and q.id <> all (passed)
                order by q.lane, q.priority desc, q.run_at, q.id
                limit 1
            ) f
        ),
        waiting as materialized (
            select n.lane, n.id from first n where n.lane <> all (exhausted)
            union all
            (
                select distinct on (h.lane) h.lane, h.id
                from unnest(heads) h
                where h.live and h.lane <> all (exhausted)
                order by h.lane, h.priority desc, h.run_at, h.id
            )
        ),
        short as materialized (
            select array_agg(w.lane) as lanes
            from waiting w
            join pgreact.lane l on l.name = w.lane and l.max_in_progress is not null
            join pgreact.queue q on q.id = w.id
            join pgreact.task t on t.name = q.task and pgreact.is_short(t)
        ),
        open as materialized (
            select n.*, least(n.room, ceil(places * n.weight / sum(n.weight) over ()) + 1) as share
            from (
                select
                    w.lane,
                    w.id,
                    r.weight,
                    greatest(r.virtual_time, choose_jobs.virtual_time) + r.taken_jobs / r.weight as virtual_time,
                    least(places, r.room) as room
                from waiting w
                join pgreact.lane_rooms(
                        array(select w.lane from waiting w), at, rated, choose_jobs.lanes, used, unstarted, taken,
                        coalesce((select s.lanes from short s), '{}')) r
                    on r.lane = w.lane
                where not r.paused
            ) n
        ),
        first_jobs as materialized (
            select o.lane, o.id, o.virtual_time from open o where o.room >= 1
        ),
        fair_share as materialized (
            select h.lane, h.id, h.virtual_time from first_jobs h
            union all
            select o.lane, c.id, o.virtual_time + c.place / o.weight
            from open o
            cross join (
                select coalesce(
                    (select h.virtual_time from first_jobs h order by h.virtual_time offset places - 1 limit 1), 'infinity'
                ) as virtual_time
            ) e
            cross join lateral (
                select f.id, row_number() over (order by f.priority desc, f.run_at, f.id) as place
                from pgreact.lane_jobs(o.lane, heads, 1, o.share - 1, passed) f
            ) c
            where o.share > 1 and o.virtual_time + 1 / o.weight <= e.virtual_time
        ),
        remainder as (
            select c.id, o.virtual_time + (o.share + c.place - 1) / o.weight as virtual_time
            from (
                select n.*
                from open n
                join (select f.lane, count(*) as jobs from fair_share f group by f.lane) g on g.lane = n.lane and g.jobs = n.share
            ) o
            cross join (
                select coalesce(
                    (select f.virtual_time from fair_share f order by f.virtual_time offset places - 1 limit 1), 'infinity'
                ) as virtual_time
            ) e
            cross join lateral (
                select f.id, row_number() over (order by f.priority desc, f.run_at, f.id) as place
                from pgreact.lane_jobs(o.lane, heads, o.share,
                    least(o.room, ceil((e.virtual_time - o.virtual_time) * o.weight) + 1) - o.share, passed) f
            ) c
            where o.room > o.share and o.virtual_time + o.share / o.weight <= e.virtual_time
        )
        select array_agg(w.id)
        from (
            select c.id
            from (select f.id, f.virtual_time from fair_share f union all select r.id, r.virtual_time from remainder r) c
            order by c.virtual_time, c.id
            limit places
        ) w
    );
end
$$;
comment on function pgreact.choose_jobs(
    integer, timestamptz, float8, text[], text[], text[], bigint[], bigint[], pgreact.queue_head[], bigint[], bigint[])
    is 'the jobs that a claim takes next, by the lanes'' limits and fair shares; null: none';
revoke all on function pgreact.choose_jobs(
    integer, timestamptz, float8, text[], text[], text[], bigint[], bigint[], pgreact.queue_head[], bigint[], bigint[]) from public;
