-- Triggers on the users' tables that call a function of pgreact.
select c.oid::regclass::text as "table", t.tgname::text as trigger
from pg_trigger t
join pg_proc p on p.oid = t.tgfoid
join pg_class c on c.oid = t.tgrelid
where p.pronamespace = to_regnamespace('pgreact')
    and c.relnamespace <> to_regnamespace('pgreact')
    and t.tgparentid = 0
order by 1, 2
