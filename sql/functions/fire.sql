-- Carries out the leader's plans: enqueues the due jobs and writes each schedule's next plan, in one statement. A schedule
-- is left alone, and not returned, if its revision is not the one planned for, if it is disabled, or if another transaction
-- has locked its row. The others, one row each:
--   fired       each planned occurrence; without overlap, the first only
--   overlapped  none: without overlap, and the job of the previous occurrence is queued or in progress
--   failed      none: the plan has an error, or the lane does not exist; the schedule stops
--   planned     none was due: the next occurrence is written
-- With retention, pgreact.schedule_history gets a row for each occurrence, or one with the number of those missed.
create or replace function pgreact.fire(plans jsonb)
    returns table (id bigint, fired_at timestamptz, jobs bigint[], error text)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    moment timestamptz := pgreact.clock_now();
begin
    return query
    -- Each row is looked up once: PostgreSQL expects few rows of a WITH, and would join by nested loops.
    with checked as materialized (
        select
            s.id, s.name, s.task, s.args, s.kwargs, coalesce(s.lane, s.options ->> 'queue', t.queue) as lane, s.priority, s.max_attempts,
            s.options, s.expires, t.expires as task_expires, s.delivery,
            s.overlap, s.retention, s.next_run_at,
            p.state as p_state,
            coalesce(p.occurrences, '{}') as occurrences,
            p.task_ids,
            p.next_nominal_at as p_next_nominal_at,
            p.next_run_at as p_next_run_at,
            p.last_nominal_at as p_last_nominal_at,
            coalesce(p.missed, 0) as missed,
            p.planned_at as p_planned_at,
            p.replanned_at,
            cardinality(p.occurrences) > 0 and not s.overlap and (
                exists (select from pgreact.queue q where q.id = s.last_job)
                or exists (select from pgreact.in_progress i where i.id = s.last_job)
            ) as overlapped,
            coalesce(p.error, case
                -- the lane was dropped since the schedule was written
                when s.delivery = 'queue' and s.lane is not null and not exists (select from pgreact.lane l where l.name = s.lane)
                    then format('no lane "%s" in pgreact.lane', s.lane)
            end) as problem
        from jsonb_to_recordset(plans) as p (
            id bigint, revision bigint, state text, occurrences timestamptz[], task_ids uuid[], next_nominal_at timestamptz,
            next_run_at timestamptz, last_nominal_at timestamptz, missed bigint, error text, planned_at timestamptz,
            replanned_at timestamptz
        )
        join pgreact.schedule s on s.id = p.id
        left join pgreact.task t on t.name = s.task
        where s.revision = p.revision and s.enabled
        for update of s skip locked
    ),
    due as materialized (
        select
            c.*,
            array(
                select case when c.delivery = 'queue' then nextval('pgreact.queue_id_seq') end
                from generate_series(1, c.runs)
            ) as jobs
        from (
            select
                j.*,
                case
                    when j.overlapped or j.problem is not null then 0
                    when j.overlap then cardinality(j.occurrences)
                    else least(cardinality(j.occurrences), 1)
                end as runs
            from checked j
        ) c
    ),
    enqueued as (
        insert into pgreact.queue (id, lane, task, args, kwargs, priority, run_at, max_attempts, expires, options, enqueued_at)
        select o.job, d.lane, d.task, d.args, d.kwargs, d.priority, least(o.nominal_at, moment), d.max_attempts,
            case
                when d.expires is null and d.options ? 'expires' then pgreact.expiry(d.options, moment)
                else moment + coalesce(d.expires, d.task_expires)
            end,
            -- the headers that Celery Beat sets, and the occurrence; inline, since a function would double the cost
            d.options - 'expires' || jsonb_build_object('headers',
                case when jsonb_typeof(d.options -> 'headers') = 'object' then d.options -> 'headers' else '{}' end
                || jsonb_build_object('periodic_task_name', d.name, 'pgreact_occurrence',
                    to_char(o.nominal_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))),
            moment
        from due d
        cross join lateral unnest(d.occurrences, d.jobs) o (nominal_at, job)
        where o.job is not null
    ),
    recorded as (
        insert into pgreact.schedule_history (schedule, nominal_at, fired_at, outcome, job, task_id, error)
        select d.name, coalesce(o.nominal_at, d.next_run_at, moment), moment,
            case
                when o.place <= d.runs then 'fired'
                when d.problem is not null then 'failed'
                when o.nominal_at is not null then 'overlapped'
                else 'missed'
            end,
            o.job, case when o.place <= d.runs then o.task_id end,
            coalesce(d.problem, case when d.missed > 0 then d.missed || ' missed' end)
        from due d
        left join lateral unnest(d.occurrences, d.jobs, d.task_ids) with ordinality o (nominal_at, job, task_id, place) on true
        where d.retention is not null and (o.nominal_at is not null or d.missed > 0 or d.problem is not null)
    )
    update pgreact.schedule s
    set state = case when d.problem is null then d.p_state else 'failed' end,
        next_nominal_at = case when d.problem is null then d.p_next_nominal_at end,
        next_run_at = case when d.problem is null then d.p_next_run_at end,
        last_nominal_at = coalesce(d.p_last_nominal_at, s.last_nominal_at),
        last_run_at = case when d.runs > 0 then moment else s.last_run_at end,
        last_job = coalesce(d.jobs[d.runs], s.last_job),
        last_error = d.problem,
        -- a run by hand keeps the next occurrence, and with it the clock that planned it
        planned_at = greatest(moment, d.p_planned_at, case when s.next_nominal_at = d.p_next_nominal_at then s.planned_at end),
        replanned_at = coalesce(d.replanned_at, s.replanned_at),
        -- created by a clock that was far ahead: begins now
        created_at = least(s.created_at, d.replanned_at),
        run_count = least(s.run_count, 9223372036854775807 - d.runs) + d.runs,
        misfire_count = least(s.misfire_count::numeric + d.missed + cardinality(d.occurrences) - d.runs, 9223372036854775807),
        -- wraps around
        revision = case when s.revision < 9223372036854775807 then s.revision + 1 else -9223372036854775808 end
    from due d
    where s.id = d.id
    returning s.id, moment, d.jobs, d.problem;
end
$$;
comment on function pgreact.fire(jsonb) is 'enqueues the jobs of due occurrences and writes their schedules'' next plans, as the leader computed';
revoke all on function pgreact.fire(jsonb) from public;
