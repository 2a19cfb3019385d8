-- Many jobs, as a JSON array; see enqueue.sql. to_jsonb writes times independently of the session's DateStyle.
select e.id, e.task_id
from pgreact.enqueue_many((
    select coalesce(jsonb_agg(j.job - 'run_in' - 'expires_in' || jsonb_strip_nulls(jsonb_build_object(
        'run_at', coalesce(j.job -> 'run_at', to_jsonb(clock_timestamp() + cast(j.job ->> 'run_in' as interval))),
        'expires', coalesce(j.job -> 'expires', to_jsonb(clock_timestamp() + cast(j.job ->> 'expires_in' as interval)))
    )) order by j.place), '[]')
    from jsonb_array_elements(cast(cast(%(jobs)s as text) as jsonb)) with ordinality j (job, place)
)) with ordinality e (id, task_id, place)
order by e.place
