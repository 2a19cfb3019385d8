-- The job is a row of pgreact.queue, which has no claim yet, or of pgreact.in_progress.
create or replace function pgreact.record_history(job anyelement, outcome text, error text) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    entry pgreact.history;
begin
    if (select s.retention is null from pgreact.queue_setting s) then
        return;
    end if;
    entry.id := job.id;
    entry.lane := job.lane;
    entry.task := job.task;
    entry.key := job.key;
    entry.attempt := job.attempt;
    entry.outcome := outcome;
    entry.error := error;
    entry.task_id := job.task_id;
    entry.enqueued_at := job.enqueued_at;
    entry.settled_at := clock_timestamp();
    if pg_typeof(job) = 'pgreact.in_progress'::regtype then
        entry.worker := job.worker;
        entry.claimed_at := job.claimed_at;
        entry.started_at := job.started_at;
    end if;
    if to_regclass('pgreact.history_' || to_char(entry.settled_at at time zone 'UTC', 'YYYYMMDD')) is not null then
        insert into pgreact.history values (entry.*);
    else
        insert into pgreact.history_rest values (entry.*);
    end if;
end
$$;
comment on function pgreact.record_history(anyelement, text, text)
    is 'writes an attempt into pgreact.history, or into history_rest while its day has no partition; nothing if no history is kept';
revoke all on function pgreact.record_history(anyelement, text, text) from public;
