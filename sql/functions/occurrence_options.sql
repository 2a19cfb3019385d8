-- The headers that Celery Beat sets, and which occurrence it is.
create or replace function pgreact.occurrence_options(options jsonb, schedule text, nominal_at timestamptz) returns jsonb
    language sql
    stable strict
    set search_path = pg_catalog, pg_temp
as $$
select options || jsonb_build_object('headers',
    case when jsonb_typeof(options -> 'headers') = 'object' then options -> 'headers' else '{}' end
    || jsonb_build_object('periodic_task_name', schedule, 'pgreact_occurrence',
        to_char(nominal_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')))
$$;
comment on function pgreact.occurrence_options(jsonb, text, timestamptz) is 'options of apply_async for one occurrence';
revoke all on function pgreact.occurrence_options(jsonb, text, timestamptz) from public;
