-- Divides chosen jobs into messages, and leaves out those that find no room: for the claim and for its preview. pgreact.lane_rooms and
-- pgreact.choose_jobs have made room for bundles: where jobs travel alone all the same, more were chosen than fit.
--
-- A bundle takes one place of a lane's max_in_progress. max_unstarted bounds the jobs that travel alone; bundles have their own bound.
-- No job overtakes one of its lane that finds no room: that would wait as long as others come that share messages.
--
-- waiting: lanes with messages that wait for a worker. used, unstarted: places taken and jobs not started, by lane.
-- fitting, messages: the jobs that fit, with the number of the message that each shares; null: it travels alone. full: lanes of which jobs
-- were left out.
create or replace function pgreact.fit_messages(
    chosen bigint[], waiting text[], lanes text[], used bigint[], unstarted bigint[],
    out fitting bigint[], out messages integer[], out "full" text[])
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    short_jobs bigint[];
    total bigint;
begin
    fitting := chosen;
    messages := '{}';
    "full" := '{}';
    if coalesce(cardinality(chosen), 0) < 2 then
        return;
    end if;
    short_jobs := pgreact.bundleable(chosen);
    if short_jobs = '{}' then
        total := cardinality(chosen) + coalesce((select sum(u) from unnest(used) u), 0) + coalesce((select sum(u) from unnest(unstarted) u), 0);
        if total <= 200 and not exists (select from pgreact.lane l where least(l.max_unstarted, l.max_in_progress) < total) then
            return;  -- the usual case
        end if;
    end if;
    with jobs as materialized (
        select q.id, q.lane, t.run_s, l.bundle,
            q.lane = any (coalesce(waiting, '{}')) as busy,
            -- in its lane
            row_number() over (partition by q.lane order by q.priority desc, q.run_at, q.id) as place,
            count(*) over (partition by q.lane) as jobs,
            count(b.id) over (partition by q.lane) as short_ones,
            coalesce(u.unstarted, 0) as unstarted,
            l.max_in_progress - coalesce(u.used, 0) as places,
            coalesce(l.max_unstarted, 200) - coalesce(u.unstarted, 0) as room,
            b.id is not null as short,
            dense_rank() over (order by q.lane, q.task, q.options, b.id is not null) as kind
        from pgreact.queue q
        left join unnest(short_jobs) b (id) on b.id = q.id
        left join pgreact.task t on t.name = q.task
        left join unnest(lanes, fit_messages.used, fit_messages.unstarted) u (lane, used, unstarted) on u.lane = q.lane
        left join pgreact.lane l on l.name = q.lane
        where q.id = any (chosen)
    ),
    workers as (
        select w.lane, count(*) as busy
        from (
            select distinct p.lane, p.worker
            from pgreact.in_progress p
            where p.claim_number >= (select s.oldest_claim from pgreact.queue_state s)
                and p.started_at is not null
                and short_jobs <> '{}'
        ) w
        group by w.lane
    ),
    counted as (
        select j.*, w.busy as workers, j.jobs > j.places as crowded,
            row_number() over (partition by j.kind order by j.place) as number,
            count(*) over (partition by j.kind) as alike
        from jobs j
        left join workers w on w.lane = j.lane
    ),
    sized as (
        select c.*,
            case
                when not c.short then 1
                -- Messages that wait show that no worker is idle, and jobs that find no place would wait all the same. Elsewhere jobs
                -- that share a message would wait for each other; so there only many do, which end before a worker has received the
                -- next message, in about 1 ms.
                when not (c.busy or coalesce(c.crowded, false) or c.run_s < 0.001 and c.alike >= 32) then 1
                -- A message lasts 20 ms, and each busy worker has another one; 50 ms where a place is idle between two messages. Of a
                -- lane whose workers may be idle, 16 have one.
                else least(coalesce(c.bundle, 100), case when c.crowded then 0.05 else 0.02 end / greatest(c.run_s, 0.0002), greatest(
                    case when c.crowded then ceil(c.alike / greatest(c.places, 1)::float8) end,
                    case
                        when c.busy then least(ceil(c.alike / 4.0), (c.short_ones + c.unstarted) / (2.0 * coalesce(c.workers, 1)))
                        else ceil(c.alike / 16.0)
                    end))::integer
            end as size
        from counted c
    ),
    numbered as (
        select s.*, case
                when s.size > 1 and not (s.number = s.alike and s.alike % s.size = 1) then s.kind * 10000 + (s.number - 1) / s.size
            end::integer as message
        from sized s
    ),
    fits as (
        select n.id, n.lane, n.place, n.message,
            coalesce(sum((n.message is null or (n.number - 1) % n.size = 0)::integer) over so_far <= n.places, true)
                and (sum((n.size <= 1)::integer) over so_far = 0 or sum((n.size <= 1)::integer) over so_far <= n.room) as fits
        from numbered n
        window so_far as (partition by n.lane order by n.place rows unbounded preceding)
    )
    select array_agg(f.id order by f.lane, f.place) filter (where f.fits),
        array_agg(f.message order by f.lane, f.place) filter (where f.fits),
        coalesce(array_agg(distinct f.lane) filter (where not f.fits), '{}')
    into fitting, messages, "full"
    from fits f;
end
$$;
comment on function pgreact.fit_messages(bigint[], text[], text[], bigint[], bigint[])
    is 'which of these jobs find room by the limits of their lanes, and which of them share messages';
revoke all on function pgreact.fit_messages(bigint[], text[], text[], bigint[], bigint[]) from public;
