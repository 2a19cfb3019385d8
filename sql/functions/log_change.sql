-- Triggers call this, once for each row. A transaction that changes very many rows must not push all else out of the log: its first 20
-- changes are logged, and that there were more.
create or replace function pgreact.log_change(event text, subject text, details jsonb default '{}') returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    most constant integer := 20;
    setting text := current_setting('pgreact.changes_logged', true);  -- any session can set it to anything
    logged integer := case when setting ~ '^[0-9]{1,9}$' then setting::integer else 0 end;
begin
    if logged <= most then
        perform pgreact.log_event(event, case when logged < most then subject else '(more)' end,
            case when logged < most then details else '{}' end);
        perform set_config('pgreact.changes_logged', (logged + 1)::text, true);
    end if;
end
$$;
comment on function pgreact.log_change(text, text, jsonb)
    is 'adds a change by a user to pgreact.event_log, the first 20 of a transaction';
revoke all on function pgreact.log_change(text, text, jsonb) from public;
