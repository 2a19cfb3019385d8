create or replace function pgreact.record_history(
    id bigint, lane text, task text, key text, attempt integer, outcome text, error text, task_id uuid, worker text,
    enqueued_at timestamptz, claimed_at timestamptz, started_at timestamptz
) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    entry pgreact.history;
begin
    if (select s.keep is null from pgreact.queue_setting s) then
        return;
    end if;
    entry := row(id, lane, task, key, attempt, outcome, error, task_id, worker, enqueued_at, claimed_at, started_at,
        clock_timestamp());
    if to_regclass('pgreact.history_' || to_char(entry.settled_at at time zone 'UTC', 'YYYYMMDD')) is not null then
        insert into pgreact.history values (entry.*);
    else
        -- its day has no partition yet
        insert into pgreact.history_rest values (entry.*);
    end if;
end
$$;
comment on function pgreact.record_history(bigint, text, text, text, integer, text, text, uuid, text, timestamptz, timestamptz, timestamptz)
    is 'writes an attempt into the history, if one is kept';
revoke all on function pgreact.record_history(bigint, text, text, text, integer, text, text, uuid, text, timestamptz, timestamptz, timestamptz)
    from public;
