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
        select q.id, q.lane, q.task, q.options, t.run_s, l.bundle,
            q.lane = any (coalesce(waiting, '{}')) as busy,
            -- of its lane
            row_number() over (partition by q.lane order by q.priority desc, q.run_at, q.id) as place,
            count(*) over (partition by q.lane) + coalesce(u.unstarted, 0) as jobs,
            coalesce(count(*) over (partition by q.lane) > l.max_in_progress - coalesce(u.used, 0), false) as crowded,
            l.max_in_progress - coalesce(u.used, 0) as places,
            coalesce(l.max_unstarted, 200) - coalesce(u.unstarted, 0) as room,
            b.id is not null as short
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
    sized as (
        select j.*, row_number() over (alike order by j.place) as number,
            case
                when not j.short then 1
                -- Messages that wait show that no worker is idle, and jobs that find no place would wait all the same. Elsewhere jobs
                -- that share a message would wait for each other; so there only many do, which end before a worker has received the
                -- next message, in about 1 ms.
                when not (j.busy or j.crowded or j.run_s < 0.001 and count(*) over (partition by j.lane, j.task) >= 32) then 1
                -- A message lasts 20 ms, and each busy worker has another one. Of a lane whose workers may be idle, 16 have one.
                else least(coalesce(j.bundle, 100), 0.02 / greatest(j.run_s, 0.0002), greatest(
                    case when j.crowded then ceil(count(*) over alike / greatest(j.places, 1)::float8) end,
                    case
                        when j.busy then least(ceil(count(*) over alike / 4.0), j.jobs / (2.0 * coalesce(w.busy, 1)))
                        else ceil(count(*) over alike / 16.0)
                    end))::integer
            end as size
        from jobs j
        left join workers w on w.lane = j.lane
        window alike as (partition by j.lane, j.task, j.options, j.short)
    ),
    numbered as (
        select s.*, case when s.size > 1 then
                dense_rank() over (order by s.lane, s.task, s.options, case when s.size > 1 then (s.number - 1) / s.size end)
            end as message
        from sized s
    ),
    opened as (
        select n.*, n.message is null or row_number() over (partition by n.message order by n.place) = 1 as opens
        from numbered n
    ),
    fits as (
        select o.id, o.lane, o.place, o.message,
            coalesce(sum(o.opens::integer) over so_far <= o.places, true)
                and (sum((o.message is null)::integer) over so_far = 0 or sum((o.message is null)::integer) over so_far <= o.room) as fits
        from opened o
        window so_far as (partition by o.lane order by o.place)
    ),
    shared as (
        select f.id, f.lane, f.place, case when count(*) over (partition by f.message) > 1 then f.message end as message
        from fits f
        where f.fits
    )
    select array_agg(s.id order by s.lane, s.place), array_agg(s.message order by s.lane, s.place),
        array(select distinct f.lane from fits f where not f.fits)
    into fitting, messages, "full"
    from shared s;
end
$$;
comment on function pgreact.fit_messages(bigint[], text[], text[], bigint[], bigint[])
    is 'which of these jobs find room by the limits of their lanes, and which of them share messages';
revoke all on function pgreact.fit_messages(bigint[], text[], text[], bigint[], bigint[]) from public;
