create or replace function pgreact.let_next(key text) returns void
    language sql
    set search_path = pg_catalog, pg_temp
as $$
update pgreact.queue q
set state = 'ready'
where q.id = (select f.id from pgreact.queue f where f.key = let_next.key order by f.id limit 1)
    and q.state = 'behind'
$$;
comment on function pgreact.let_next(text) is 'the first job of a key may be claimed: the one before it is gone';
revoke all on function pgreact.let_next(text) from public;
