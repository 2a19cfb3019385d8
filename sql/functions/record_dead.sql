-- The job is a row of pgreact.queue or of pgreact.in_progress.
create or replace function pgreact.record_dead(job anyelement, outcome text, error text) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    insert into pgreact.dead (id, lane, task, args, kwargs, priority, key, attempt, max_attempts, max_lost, backoff, options,
        enqueued_at, task_id, outcome, error)
    values (job.id, job.lane, job.task, job.args, job.kwargs, job.priority, job.key, job.attempt, job.max_attempts,
        job.max_lost, job.backoff, job.options, job.enqueued_at, job.task_id, outcome, error);
end
$$;
comment on function pgreact.record_dead(anyelement, text, text) is 'writes a job that will not run again into pgreact.dead';
revoke all on function pgreact.record_dead(anyelement, text, text) from public;
