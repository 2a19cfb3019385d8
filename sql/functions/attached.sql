-- What attach has recorded, of routes and of outboxes alike. All rows with one trigger name are of one route and event, or of
-- one task and event.
create or replace function pgreact.attached(
    out trigger text,
    out relation regclass,
    out event text,
    out lane text,
    out condition text,
    out changed text[],
    out always boolean,
    out definition text
) returns setof record
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select format('pgreact_%s_%s', w.route_id, w.event), w.relation, w.event, null::text, w.condition, w.changed, w.always, w.definition
    from pgreact.watched w
    union all
    select pgreact.outbox_trigger(o.task, o.event), o.relation, o.event, o.lane, o.condition, o.changed, o.always, o.definition
    from pgreact.outbox o;
end
$$;
comment on function pgreact.attached() is 'the attached events of tables, with the names of their triggers';
revoke all on function pgreact.attached() from public;
