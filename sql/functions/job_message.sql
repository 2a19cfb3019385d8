-- A claimed job as the leader publishes it. A query has this expression in place of the call; a SET clause would prevent that, and is not
-- needed: see clock_now.
--
-- args, kwargs and options are texts, which the leader parses one job at a time: so an unreadable job does not affect the others.
-- place: in the order of publishing; null: there are no bundles.
create or replace function pgreact.job_message(job pgreact.in_progress, place integer) returns jsonb
    language sql
    stable
return pg_catalog.jsonb_build_object(
    'place', place,
    'id', job.id,
    'claim_id', job.claim_id,
    'task_id', job.task_id,
    'attempt', job.attempt,
    'lane', job.lane,
    'task', coalesce(job.resume ->> 'task', job.task),
    'args', coalesce(job.resume -> 'args', job.args)::text,
    'kwargs', coalesce(job.resume -> 'kwargs', job.kwargs)::text,
    'options', coalesce(job.resume -> 'options', job.options)::text,
    'retries', coalesce((job.resume ->> 'retries')::integer, 0),
    'before', coalesce((job.resume ->> 'before')::integer, 0),
    'again', job.attempt - job.lost < job.max_attempts,
    'trace', case when job.trace is not null then job.trace || pg_catalog.jsonb_build_object('ready', extract(epoch from job.ready_at)) end
);
comment on function pgreact.job_message(pgreact.in_progress, integer) is 'a claimed job as the leader publishes it';
revoke all on function pgreact.job_message(pgreact.in_progress, integer) from public;
