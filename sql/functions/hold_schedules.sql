create or replace function pgreact.hold_schedules(ids bigint[], turns bigint[]) returns setof pgreact.schedule
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
select s.*
from unnest(ids, turns) h (id, turn)
join pgreact.schedule s on s.id = h.id and s.turn = h.turn
where s.enabled
for update of s skip locked
$$;
comment on function pgreact.hold_schedules(bigint[], bigint[])
    is 'locks schedules that nobody has moved on since, to the end of the transaction; those that somebody edits are left out';
revoke all on function pgreact.hold_schedules(bigint[], bigint[]) from public;
