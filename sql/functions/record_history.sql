-- Every settled attempt, and every job that is dropped, passes here. The job is a row of pgreact.queue, which has no claim yet, or
-- of pgreact.in_progress.
create or replace function pgreact.record_history(job anyelement, outcome text, error text) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    entry pgreact.history;
    published timestamptz;
    ran_s double precision;
begin
    entry.settled_at := pgreact.clock_now();
    if pg_typeof(job) = 'pgreact.in_progress'::regtype then
        entry.worker := job.worker;
        entry.ready_at := job.ready_at;
        entry.committed_at := job.committed_at;
        entry.claimed_at := job.claimed_at;
        entry.published_at := job.published_at;
        entry.started_at := job.started_at;
    end if;
    if entry.started_at is null then
        insert into pgreact.settled (settled_at, lane, task, outcome) values (entry.settled_at, job.lane, job.task, outcome);
    else
        -- a clock that was set back makes no negative times
        ran_s := greatest(0, extract(epoch from entry.settled_at - entry.started_at));
        published := greatest(least(entry.published_at, entry.started_at), entry.claimed_at);
        insert into pgreact.settled (settled_at, lane, task, outcome, transaction_s, claim_s, publish_s, broker_s, run_s)
        values (entry.settled_at, job.lane, job.task, outcome,
            case when entry.committed_at is not null then
                greatest(0, extract(epoch from entry.committed_at - entry.ready_at))
            end,
            greatest(0, extract(epoch from entry.claimed_at - greatest(entry.committed_at, entry.ready_at))),
            extract(epoch from published - entry.claimed_at),
            greatest(0, extract(epoch from entry.started_at - published)),
            ran_s);
        if random() < 0.05 or ran_s > 0.02 then
            perform pgreact.measure_run(job.task, ran_s);
        end if;
    end if;
    if outcome = 'done' and job.task = 'pgreact.canary' then
        update pgreact.canary c
        set returned_at = entry.settled_at, seconds = greatest(0, extract(epoch from entry.settled_at - c.sent_at))
        where c.job = record_history.job.id;
    end if;
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
    entry.run_at := job.run_at;
    if to_regclass('pgreact.history_' || to_char(entry.settled_at at time zone 'UTC', 'YYYYMMDD')) is not null then
        insert into pgreact.history values (entry.*);
    else
        insert into pgreact.history_rest values (entry.*);
    end if;
end
$$;
comment on function pgreact.record_history(anyelement, text, text)
    is 'writes an attempt into pgreact.settled, and into pgreact.history (history_rest while its day has no partition) if a history is kept';
revoke all on function pgreact.record_history(anyelement, text, text) from public;
