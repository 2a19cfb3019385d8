-- No array or composite type: converting values of these types to JSON runs no code of a user's type.
create or replace function pgreact.json_types() returns oid[]
    language sql
    immutable parallel safe
    set search_path = pg_catalog, pg_temp
as $$
select array['boolean', 'smallint', 'integer', 'bigint', 'numeric', 'real', 'double precision', 'timestamp',
    'timestamptz', 'jsonb']::regtype[]::oid[]
$$;
comment on function pgreact.json_types() is 'types whose values an outbox writes as JSON; values of all others go as text';
revoke all on function pgreact.json_types() from public;
