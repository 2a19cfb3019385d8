-- Types that somebody made go as text: their owner may have given them a cast to JSON, which would run with our rights.
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
    case when coalesce(nullif(t.typbasetype, 0), t.oid)::bigint < 16384 then 'json' else 'text' end
]) with ordinality p (part, n)
where i.indrelid = relation and i.indisprimary and k.n <= i.indnkeyatts
$$;
comment on function pgreact.outbox_key(regclass)
    is 'the primary key: each column''s name, and whether its value goes as JSON or as text; null: there is none';
revoke all on function pgreact.outbox_key(regclass) from public;
