-- Runs as its owner: who may signal needs no right on pgreact's tables.
create or replace function pgreact.signal(route text) returns void
    language plpgsql
    strict
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    known integer;
    gate text;
begin
    select r.id, r.gate into known, gate from pgreact.route r where r.name = signal.route;
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
    -- as in the triggers: W before B, and NOTIFY wherever it is not certain that a poll will see us
    if gate <> 'open' and pg_try_advisory_xact_lock_shared(pgreact.lock_class('writer'), known) then
        if gate = 'closed' or not pg_try_advisory_xact_lock_shared(pgreact.lock_class('busy'), known) then
            if nextval(to_regclass('pgreact.skips_' || known)) is not null then
                return;
            end if;
        end if;
    end if;
    perform pg_notify('pgreact', known::text);
end
$$;
comment on function pgreact.signal(text) is 'signals a route when the transaction commits';
revoke all on function pgreact.signal(text) from public;
