-- nextval locks a sequence before it moves it, and until the transaction ends, prepared or not, whatever its savepoints do
-- (lock_and_open_sequence in PostgreSQL's sequence.c). So do setval and pg_sequence_last_value: this session's own lock
-- does not count.
create or replace function pgreact.holders(route_ids integer[]) returns jsonb
    language sql
    volatile strict
    set search_path = pg_catalog, pg_temp
as $$
select coalesce(jsonb_object_agg(id, holders), '{}')
from (
    select r.id, jsonb_agg(l.virtualtransaction)
    from unnest(route_ids) as r (id)
    join pg_locks l on l.relation = to_regclass('pgreact.gate_' || r.id)
    where l.locktype = 'relation'
        and l.database = (select oid from pg_database where datname = current_database())
        and l.mode = 'RowExclusiveLock'
        and l.granted
        and l.pid is distinct from pg_backend_pid()
    group by r.id
) as found (id, holders)
$$;
comment on function pgreact.holders(integer[])
    is 'the transactions of other sessions that have moved each route''s sequence, or are about to';
revoke all on function pgreact.holders(integer[]) from public;
