-- None of these holds a value of another type: turning one to JSON calls nothing that a user wrote. Arrays and rows do.
create or replace function pgreact.json_types() returns oid[]
    language sql
    immutable parallel safe
    set search_path = pg_catalog, pg_temp
as $$
select array['boolean', 'smallint', 'integer', 'bigint', 'numeric', 'real', 'double precision', 'timestamp',
    'timestamptz', 'jsonb']::regtype[]::oid[]
$$;
comment on function pgreact.json_types() is 'PostgreSQL''s types whose values an outbox writes as JSON; all others go as text';
revoke all on function pgreact.json_types() from public;
