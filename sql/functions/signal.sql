-- Runs as its owner: who may signal needs no right on pgreact's tables.
create or replace function pgreact.signal(route text) returns void
    language plpgsql
    strict
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    known integer := (select r.id from pgreact.route r where r.name = signal.route);
begin
    if known is null then
        raise exception 'no route "%" in pgreact.route', route
            using errcode = 'undefined_object',
                hint = coalesce('Known routes: ' || (select string_agg(r.name, ', ' order by r.name)
                                                     from pgreact.route r) || '.',
                                'There are none yet: run "pgreact apply".');
    end if;
    if current_setting('pgreact.muted', true) = 'on' then
        return;
    end if;
    perform pg_notify('pgreact', known::text);
end
$$;
comment on function pgreact.signal(text) is 'signals a route when the transaction commits';
revoke all on function pgreact.signal(text) from public;
