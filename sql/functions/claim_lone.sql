-- The claim of the only ready job, by two statements: such a job finds its worker idle, and each statement more is a part of its wait. It
-- returns the same answer and leaves the same rows as the steps of pgreact.claim, which calls it with its lock held; and null, with nothing
-- changed, where more is to be done: then those follow.
--
-- next_delayed: when the first delayed job is due.
create or replace function pgreact.claim_lone(
    state pgreact.queue_state, setting pgreact.queue_setting, reference_time timestamptz, next_delayed timestamptz) returns jsonb
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    most_entries constant bigint := 10000;  -- of the index, as pgreact.claim has it
    entries bigint := pg_stat_get_xact_tuples_returned('pgreact.queue_ready'::regclass);
    tracked boolean := current_setting('track_commit_timestamp')::boolean;
    found_job record;
    claim_time timestamptz;
    jobs jsonb;
begin
    select
        f.id,
        f.lane,
        f.expires,
        f.xmin as version,
        coalesce(f.key is null and coalesce(f.expires > reference_time, true) and f.size <= pgreact.claim_bytes(), false) as plain,
        f.next is not null as others,
        coalesce(not l.paused and l.rate is null, false) and exists (select from pgreact.lane_state s where s.lane = l.name) as open,
        l.max_in_progress,
        coalesce(l.max_unstarted, 200) as max_unstarted,
        l.weight::float8 as weight,
        c.*,
        exists (select from pgreact.contested_key k where k.claim_number >= state.oldest_contested) as contested
    into found_job
    from (values (1)) one
    left join lateral (
        select n.*, lead(n.id) over () as next
        from (
            select q.id, q.lane, q.key, q.expires, q.size, q.xmin
            from pgreact.queue q
            where q.state = 'ready' and q.lane is not null
            order by q.lane, q.priority desc, q.run_at, q.id
            limit 2
        ) n
        limit 1
    ) f on true
    left join pgreact.lane l on l.name = f.lane
    cross join lateral (
        select
            count(*) as in_progress,
            count(*) filter (where p.lane = f.lane) as of_lane,
            count(*) filter (where p.lane = f.lane and p.started_at is null) as unstarted,
            min(p.claim_number) as oldest_claim,
            least(min(p.lease_until), min(p.expires) filter (where p.started_at is null)) as ends_at,
            coalesce(bool_or(p.published_at is null or p.started_at is null and p.publishes >= 2), false) as unsent
        from pgreact.in_progress p
        where p.claim_number >= state.oldest_claim
    ) c;

    if found_job.contested or found_job.unsent or found_job.ends_at <= reference_time
        or found_job.id is not null and (
            found_job.others or not found_job.plain or not found_job.open
            or found_job.in_progress >= setting.max_in_progress
            or found_job.of_lane >= found_job.max_in_progress
            or found_job.unstarted >= found_job.max_unstarted)
        or pg_stat_get_xact_tuples_returned('pgreact.queue_ready'::regclass) - entries > most_entries
    then
        return null;
    end if;

    if found_job.id is not null then
        claim_time := pgreact.clock_now();
        with free as materialized (
            -- unless it was changed meanwhile
            select q.id from pgreact.queue q where q.id = found_job.id and q.xmin = found_job.version for update skip locked
        ),
        gone as (
            delete from pgreact.queue q
            using free f
            where q.id = f.id
            returning q.*, case when tracked then pg_xact_commit_timestamp(q.xmin) end as committed_at
        ),
        here as (
            insert into pgreact.in_progress as p (id, lane, task, args, kwargs, priority, run_at, key, unique_key,
                unique_while, attempt, max_attempts, lost, max_lost, backoff, expires, options, resume, enqueued_at, task_id,
                retries, claimed_at, lease_until, claim_number, size, ready_at, committed_at, trace, published_at)
            select g.id, g.lane, g.task, g.args, g.kwargs, g.priority, g.run_at, g.key, g.unique_key,
                g.unique_while, least(g.attempt, 2147483646) + 1, g.max_attempts, g.lost, g.max_lost, g.backoff, g.expires,
                g.options, g.resume, g.enqueued_at, g.task_id,
                coalesce((g.resume ->> 'retries')::integer + (g.resume ->> 'before')::integer, 0) - 1,
                claim_time, claim_time + setting.lease, state.claim_number + 1, g.size,
                greatest(g.run_at, g.enqueued_at, g.ready_at), g.committed_at, g.trace, claim_time
            from gone g
            returning pgreact.job_message(p, null) as message
        ),
        free_lane as materialized (
            select s.lane from pgreact.lane_state s where s.lane = found_job.lane and exists (select from here) for update skip locked
        ),
        advanced as (
            update pgreact.lane_state s
            set virtual_time = greatest(s.virtual_time, state.virtual_time) + 1 / found_job.weight,
                tokens = null,
                tokens_at = claim_time,
                claimed = s.claimed + 1,
                claim_number = state.claim_number + 1,
                recent = s.recent * exp(-least(greatest(0, extract(epoch from reference_time - s.recent_at)) / 60, 99)) + 1,
                recent_at = reference_time
            from free_lane f
            where s.lane = f.lane
            returning s.virtual_time - 1 / found_job.weight as virtual_time
        ),
        moved_on as (
            update pgreact.queue_state q
            set virtual_time = greatest(state.virtual_time, (select a.virtual_time from advanced a)),
                claim_number = state.claim_number + 1,
                oldest_claim = coalesce(found_job.oldest_claim, state.claim_number + 1),
                oldest_contested = coalesce(found_job.oldest_claim, state.claim_number + 1)
            from here
        )
        select jsonb_build_array(h.message) into jobs from here h;
        if jobs is null then
            return null;  -- another transaction holds it, or changed it
        end if;
        found_job.ends_at := least(found_job.ends_at, claim_time + setting.lease, found_job.expires);
    end if;
    return jsonb_build_object(
        'jobs', coalesce(jobs, '[]'),
        'bundles', '[]'::jsonb,
        'claimed', (jobs is not null)::integer,
        'more', false,
        'waiting', 0,
        'unrouted', null,
        'full_lanes', '[]'::jsonb,
        'unanswered', '[]'::jsonb,
        'next_s', case when least(found_job.ends_at, next_delayed) is not null then
            extract(epoch from least(found_job.ends_at, next_delayed, reference_time + interval '1 day') - pgreact.clock_now())
        end
    );
end
$$;
comment on function pgreact.claim_lone(pgreact.queue_state, pgreact.queue_setting, timestamptz, timestamptz)
    is 'claims the only ready job; null: pgreact.claim has more to do';
revoke all on function pgreact.claim_lone(pgreact.queue_state, pgreact.queue_setting, timestamptz, timestamptz) from public;
