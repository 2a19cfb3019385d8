-- Many jobs, as a JSON array; see enqueue.sql. Most lists have no time relative to the server's clock, and are passed on as they
-- are. to_jsonb writes times independently of the session's DateStyle.
select e.id, e.task_id
from pgreact.enqueue_many(case
    when strpos(cast(%(jobs)s as text), '"run_in"') + strpos(cast(%(jobs)s as text), '"expires_in"') = 0 then
        cast(cast(%(jobs)s as text) as jsonb)
    else (
        select jsonb_agg(j.job - 'run_in' - 'expires_in' || jsonb_strip_nulls(jsonb_build_object(
            'run_at', coalesce(j.job -> 'run_at', to_jsonb(pgreact.clock_now() + cast(j.job ->> 'run_in' as interval))),
            'expires', coalesce(j.job -> 'expires', to_jsonb(pgreact.clock_now() + cast(j.job ->> 'expires_in' as interval)))
        )) order by j.place)
        from jsonb_array_elements(cast(cast(%(jobs)s as text) as jsonb)) with ordinality j (job, place)
    )
end) with ordinality e (id, task_id, place)
order by e.place
