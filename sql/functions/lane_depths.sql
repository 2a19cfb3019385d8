-- Each lane with its jobs by state. The cost does not grow with the jobs: a count above counted_to means more, and the oldest ready
-- job is the first of each priority, of 100 priorities at most. Many lanes share 100,000 counted rows of a state, so that the whole
-- takes some 0.05 s at most; a lane always counts to 100. places: jobs in progress, a bundle of them counted once. Row null: jobs whose task has no Celery queue yet.
create or replace function pgreact.lane_depths(most integer default 10000) returns table (
    lane text, ready integer, delayed integer, blocked integer, retrying integer, oldest timestamptz, in_progress integer,
    places integer, unstarted integer, counted_to integer
)
    language plpgsql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
    -- a plan that reads the whole queue looks cheap for a lane with many jobs, and is not for one with few
    set enable_seqscan = off
    set enable_bitmapscan = off
    set jit = off
as $$
#variable_conflict use_column
begin
    return query
    with recursive ready_lanes (lane) as (
        (select q.lane from pgreact.queue q where q.state = 'ready' and q.lane is not null order by q.lane limit 1)
        union all
        select (
            select q.lane from pgreact.queue q where q.state = 'ready' and q.lane > n.lane order by q.lane limit 1
        )
        from ready_lanes n
        where n.lane is not null
    ),
    waiting_lanes (lane) as (
        (select q.lane from pgreact.queue q where q.state <> 'ready' and q.lane is not null order by q.lane limit 1)
        union all
        select (
            select q.lane from pgreact.queue q where q.state <> 'ready' and q.lane > n.lane order by q.lane limit 1
        )
        from waiting_lanes n
        where n.lane is not null
    ),
    running as (
        select p.lane, count(*)::integer as jobs, (count(*) filter (where p.started_at is null))::integer as unstarted,
            (count(*) filter (where p.bundle is null) + count(distinct p.bundle))::integer as places
        from pgreact.in_progress p
        where p.claim_number >= (select s.oldest_claim from pgreact.queue_state s)
        group by p.lane
    ),
    lanes as (
        select l.name as lane from pgreact.lane l
        union
        select r.lane from ready_lanes r where r.lane is not null
        union
        select w.lane from waiting_lanes w where w.lane is not null
        union
        select r.lane from running r
    ),
    cap as materialized (
        select least(most, greatest(100, 100000 / greatest(1, count(*))))::integer as rows from lanes
    )
    select l.lane, r.jobs, d.jobs, b.jobs, (d.retrying + b.retrying)::integer, o.oldest, coalesce(u.jobs, 0), coalesce(u.places, 0),
        coalesce(u.unstarted, 0),
        c.rows
    from lanes l
    cross join cap c
    left join running u on u.lane = l.lane
    cross join lateral (
        select count(*)::integer as jobs
        from (select from pgreact.queue q where q.state = 'ready' and q.lane = l.lane limit c.rows + 1) n
    ) r
    cross join lateral (
        select count(*)::integer as jobs, count(*) filter (where n.retrying) as retrying
        from (select q.retrying from pgreact.queue q where q.state = 'delayed' and q.lane = l.lane limit c.rows + 1) n
    ) d
    cross join lateral (
        select count(*)::integer as jobs, count(*) filter (where n.retrying) as retrying
        from (select q.retrying from pgreact.queue q where q.state = 'blocked' and q.lane = l.lane limit c.rows + 1) n
    ) b
    cross join lateral (
        with recursive first_jobs (priority, since, place) as (
            (
                select q.priority, greatest(q.run_at, q.enqueued_at, q.ready_at), 1
                from pgreact.queue q
                where q.state = 'ready' and q.lane = l.lane
                order by q.lane, q.priority desc, q.run_at, q.id
                limit 1
            )
            union all
            select f.priority, f.since, n.place + 1
            from first_jobs n
            cross join lateral (
                select q.priority, greatest(q.run_at, q.enqueued_at, q.ready_at) as since
                from pgreact.queue q
                where q.state = 'ready' and q.lane = l.lane and q.priority < n.priority
                order by q.lane, q.priority desc, q.run_at, q.id
                limit 1
            ) f
            where n.place < 100
        )
        select min(f.since) as oldest from first_jobs f
    ) o
    union all
    select null, n.ready, n.waiting, 0, 0, n.oldest, 0, 0, 0, most
    from (
        select
            (select count(*) from (select from pgreact.queue q where q.state = 'ready' and q.lane is null limit most + 1) c)::integer as ready,
            (select count(*) from (select from pgreact.queue q where q.state <> 'ready' and q.lane is null limit most + 1) c)::integer as waiting,
            (
                select q.enqueued_at
                from pgreact.queue q
                where q.state = 'ready' and q.lane is null
                order by q.priority desc, q.run_at, q.id
                limit 1
            ) as oldest
    ) n
    where n.ready + n.waiting > 0;
end
$$;
comment on function pgreact.lane_depths(integer)
    is 'each lane with its jobs by state (a count above counted_to means more), and the time since which its oldest ready job could run';
revoke all on function pgreact.lane_depths(integer) from public;
