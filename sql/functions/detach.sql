create or replace function pgreact.detach(watched regclass, route text) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from pgreact.route r where r.name = detach.route) then
        raise exception 'no route "%" in pgreact.route', route using errcode = 'undefined_object';
    end if;
    -- the table's own delete trigger drops the triggers
    delete from pgreact.watched w
    using pgreact.route r
    where r.name = detach.route and w.route_id = r.id and w.relation = detach.watched;
end
$$;
comment on function pgreact.detach(regclass, text) is 'the changes of this table no longer signal the route';
revoke all on function pgreact.detach(regclass, text) from public;
