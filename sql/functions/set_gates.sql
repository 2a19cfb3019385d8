-- Reads and sets the sequences of routes, then lists their holders. A writer that takes a number between the read and
-- setval, finds the gate closed and has ended before the list is found by the snapshots: it has a transaction id, since it
-- wrote, so the second snapshot differs from the first. At another isolation level than read committed both would be one.
create or replace function pgreact.set_gates(
    route_ids integer[],
    sequence_value bigint,
    out sequence_values jsonb,
    out holders jsonb,
    out undisturbed boolean
)
    language plpgsql
    strict
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    before text;
begin
    if not exists (
        select
        from pg_locks l
        where l.pid = pg_backend_pid()
            and l.locktype = 'advisory'
            and l.database = (select oid from pg_database where datname = current_database())
            and l.classid::bigint = pgreact.lock_class('leader')
            and l.objid = 0
            and l.objsubid = 2
            and l.granted
    ) then
        raise exception 'only the leader''s session sets gates'
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    before := pg_current_snapshot()::text;
    sequence_values := pgreact.sequence_values(route_ids);
    perform setval(to_regclass('pgreact.gate_' || id), sequence_value) from unnest(route_ids) as id;
    holders := pgreact.holders(route_ids);
    undisturbed := before = pg_current_snapshot()::text and current_setting('transaction_isolation') = 'read committed';
end
$$;
comment on function pgreact.set_gates(integer[], bigint)
    is 'reads and sets the sequence of each route, then lists its holders; undisturbed: no transaction that wrote ended meanwhile';
revoke all on function pgreact.set_gates(integer[], bigint) from public;
