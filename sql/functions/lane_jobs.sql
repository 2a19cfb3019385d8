-- The first ready jobs of a lane, in its order. A query has this one in place of the call; a SET clause would prevent that, and is not
-- needed: see clock_now.
--
-- heads: from pgreact.queue_heads, where to read each priority from; null: from its first index entry.
-- passed: jobs to leave out.
create or replace function pgreact.lane_jobs(
    lane text, heads pgreact.queue_head[], skipped double precision, places double precision, passed bigint[] default '{}')
    returns table (id bigint, priority integer, run_at timestamptz)
    language sql
    stable
begin atomic
    (
        select q.id, q.priority, q.run_at
        from pgreact.queue q
        where lane_jobs.heads is null and q.state = 'ready' and q.lane = lane_jobs.lane and q.id <> all (lane_jobs.passed)
        order by q.priority desc, q.run_at, q.id
        offset lane_jobs.skipped
        limit lane_jobs.places
    )
    union all
    (
        select j.id, j.priority, j.run_at
        from (
            select r.id, r.priority, r.run_at
            from pg_catalog.unnest(lane_jobs.heads) h
            cross join lateral (
                select q.id, q.priority, q.run_at
                from pgreact.queue q
                where q.state = 'ready' and q.lane = h.lane and q.priority = h.priority and (q.run_at, q.id) >= (h.run_at, h.id)
                    and q.id <> all (lane_jobs.passed)
                order by q.run_at, q.id
                limit lane_jobs.skipped + lane_jobs.places
            ) r
            where h.lane = lane_jobs.lane and not h.single
            union all
            select q.id, q.priority, q.run_at
            from pg_catalog.unnest(lane_jobs.heads) h
            join pgreact.queue q on q.id = h.id
            where h.lane = lane_jobs.lane and h.single and q.state = 'ready' and q.id <> all (lane_jobs.passed)
        ) j
        order by j.priority desc, j.run_at, j.id
        offset lane_jobs.skipped
        limit lane_jobs.places
    );
end;
comment on function pgreact.lane_jobs(text, pgreact.queue_head[], double precision, double precision, bigint[])
    is 'the first ready jobs of a lane, in its order';
revoke all on function pgreact.lane_jobs(text, pgreact.queue_head[], double precision, double precision, bigint[]) from public;
