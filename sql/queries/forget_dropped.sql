-- Forgets tables that were dropped, unless another table has the name: what was attached to them in SQL, and, if asked for,
-- the routes made in SQL that have no table any more.
declare
    emptied integer[];
begin
    if to_regclass('pgreact.watched') is null then
        return;  -- uninstalled
    end if;
    with gone as (
        delete from pgreact.watched w
        where w.origin = 'sql'
            and not exists (select from pg_class c where c.oid = w.relation)
            and to_regclass(w.attached_as) is null
        returning w.route_id
    )
    select array_agg(g.route_id) into emptied from gone g;
    delete from pgreact.outbox o
    where o.origin = 'sql'
        and not exists (select from pg_class c where c.oid = o.relation)
        and to_regclass(o.attached_as) is null;
    delete from pgreact.route r
    where {routes}
        and r.id = any (emptied)
        and r.origin = 'sql'
        and not exists (select from pgreact.watched w where w.route_id = r.id);
end
