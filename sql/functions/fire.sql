-- Moves schedules on and enqueues what is due, in one statement: either both happen or neither. Whoever has seen an older
-- turn of a schedule is too late; one that somebody is editing is left for later.
create or replace function pgreact.fire(plans jsonb)
    returns table (id bigint, fired_at timestamptz, jobs bigint[], overlapped boolean, state text, error text)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    moment timestamptz := pgreact.moment();
begin
    return query
    with held as materialized (
        select
            s.*,
            p.state as p_state,
            p.occurrences,
            p.task_ids,
            p.next_nominal_at as p_next_nominal_at,
            p.next_run_at as p_next_run_at,
            p.last_nominal_at as p_last_nominal_at,
            coalesce(p.missed, 0) as missed,
            p.error
        from jsonb_to_recordset(plans) as p (
            id bigint, turn bigint, state text, occurrences timestamptz[], task_ids uuid[], next_nominal_at timestamptz,
            next_run_at timestamptz, last_nominal_at timestamptz, missed bigint, error text
        )
        join pgreact.schedule s on s.id = p.id
        where s.turn = p.turn and s.enabled
        for update of s skip locked
    ),
    judged as materialized (
        select
            h.id,
            coalesce(cardinality(h.occurrences), 0) > 0 and not h.overlap and (
                exists (select from pgreact.queue q where q.id = h.last_job)
                or exists (select from pgreact.in_progress p where p.id = h.last_job)
            ) as overlapped,
            coalesce(h.error, case
                -- it was there when the schedule was written
                when h.delivery = 'queue' and not exists (select from pgreact.lane l where l.name = h.lane)
                    then format('no lane "%s" in pgreact.lane', h.lane)
            end) as error
        from held h
    ),
    due as materialized (
        select
            h.id,
            o.nominal_at,
            case when h.delivery = 'queue' then nextval('pgreact.queue_id_seq') end as job,
            h.task_ids[o.place] as task_id
        from held h
        join judged j on j.id = h.id
        cross join lateral unnest(h.occurrences) with ordinality o (nominal_at, place)
        where not j.overlapped and j.error is null and (h.overlap or o.place = 1)
    ),
    enqueued as (
        insert into pgreact.queue (id, lane, task, args, kwargs, priority, run_at, max_attempts, expires, options, enqueued_at)
        select d.job, h.lane, h.task, h.args, h.kwargs, h.priority, least(d.nominal_at, moment), h.max_attempts,
            d.nominal_at + h.expires, pgreact.occurrence_options(h.options, h.name, d.nominal_at), moment
        from due d
        join held h on h.id = d.id
        where d.job is not null
    ),
    remembered as (
        insert into pgreact.schedule_history (schedule, nominal_at, fired_at, outcome, job, task_id, error)
        select h.name, coalesce(o.nominal_at, h.next_run_at, moment), moment,
            case
                when d.id is not null then 'fired'
                when j.error is not null then 'failed'
                when o.nominal_at is not null then 'overlapped'
                else 'missed'
            end,
            d.job, d.task_id, coalesce(j.error, case when h.missed > 0 then h.missed || ' missed' end)
        from held h
        join judged j on j.id = h.id
        left join lateral unnest(h.occurrences) o (nominal_at) on true
        left join due d on d.id = h.id and d.nominal_at = o.nominal_at
        where h.history is not null and (o.nominal_at is not null or h.missed > 0 or j.error is not null)
    ),
    made as materialized (
        select d.id, count(*) as jobs, array_agg(d.job order by d.nominal_at) as ids, max(d.job) as last
        from due d
        group by d.id
    )
    update pgreact.schedule s
    set state = case when j.error is null then h.p_state else 'failed' end,
        next_nominal_at = case when j.error is null then h.p_next_nominal_at end,
        next_run_at = case when j.error is null then h.p_next_run_at end,
        last_nominal_at = coalesce(h.p_last_nominal_at, s.last_nominal_at),
        last_run_at = case when m.jobs > 0 then moment else s.last_run_at end,
        last_job = coalesce(m.last, s.last_job),
        last_error = j.error,
        run_count = s.run_count + coalesce(m.jobs, 0),
        misfire_count = s.misfire_count + h.missed + coalesce(cardinality(h.occurrences), 0) - coalesce(m.jobs, 0),
        turn = s.turn + 1
    from held h
    join judged j on j.id = h.id
    left join made m on m.id = h.id
    where s.id = h.id
    returning s.id, moment, coalesce(m.ids, '{}'), j.overlapped, s.state, j.error;
end
$$;
comment on function pgreact.fire(jsonb) is 'fires occurrences and moves their schedules on, as the leader computed';
revoke all on function pgreact.fire(jsonb) from public;
