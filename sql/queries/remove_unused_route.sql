-- For a migration of an application: removes the route that attaching a table made, once no table is attached to it.
begin
    if to_regclass('pgreact.watched') is null then
        return;  -- uninstalled
    end if;
    delete from pgreact.route r
    where r.name = {route}
        and r.task = {task}
        and r.origin = 'sql'
        and not exists (select from pgreact.watched w where w.route_id = r.id);
end
