-- Detaches a table from a route: the trigger unwatch of pgreact.watched drops the table's triggers.
create or replace function pgreact.detach(watched regclass, route text) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from pgreact.route r where r.name = detach.route) then
        raise exception 'no route "%" in pgreact.route', route using errcode = 'undefined_object';
    end if;
    delete from pgreact.watched w
    using pgreact.route r
    where r.name = detach.route and w.route_id = r.id and w.relation = detach.watched;
end
$$;
comment on function pgreact.detach(regclass, text) is 'detaches a table from a route: its changes no longer signal it';
revoke all on function pgreact.detach(regclass, text) from public;
