create or replace function pgreact.outbox_key(relation regclass) returns text[]
    language sql
    stable strict
    set search_path = pg_catalog, pg_temp
as $$
select array_agg(part order by k.n, p.n)
from pg_index i
cross join unnest(i.indkey) with ordinality k (attnum, n)
join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
join pg_type t on t.oid = a.atttypid
cross join unnest(array[
    a.attname::text,
    case when array[t.oid, t.typbasetype] && pgreact.json_types() then t.oid::text else 'text' end
]) with ordinality p (part, n)
where i.indrelid = relation and i.indisprimary and k.n <= i.indnkeyatts
$$;
comment on function pgreact.outbox_key(regclass)
    is 'the primary key: the name of each column, and the oid of its type if its value becomes JSON, else "text"; null: none';
revoke all on function pgreact.outbox_key(regclass) from public;
