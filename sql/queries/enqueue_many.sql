-- Many jobs, as a JSON array; see enqueue.sql.
select e.id
from pgreact.enqueue_many((
    select coalesce(jsonb_agg(j.job - 'run_in' - 'expires_in' || jsonb_strip_nulls(jsonb_build_object(
        'run_at', coalesce(j.job ->> 'run_at', cast(clock_timestamp() + cast(j.job ->> 'run_in' as interval) as text)),
        'expires', coalesce(j.job ->> 'expires', cast(clock_timestamp() + cast(j.job ->> 'expires_in' as interval) as text))
    )) order by j.place), '[]')
    from jsonb_array_elements(cast(cast(%(jobs)s as text) as jsonb)) with ordinality j (job, place)
)) with ordinality e (id, place)
order by e.place
