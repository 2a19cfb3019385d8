-- The option "expires" as Celery reads it, by the database's clock. A time without an offset is UTC, as for its workers.
create or replace function pgreact.expiry(options jsonb, moment timestamptz) returns timestamptz
    language sql
    stable
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
as $$
select case jsonb_typeof(options -> 'expires')
    when 'number' then moment + make_interval(secs => (options ->> 'expires')::float8)
    when 'string' then (options ->> 'expires')::timestamptz
end
$$;
comment on function pgreact.expiry(jsonb, timestamptz) is 'when a call made at this moment expires, by its option expires; null: never';
revoke all on function pgreact.expiry(jsonb, timestamptz) from public;
