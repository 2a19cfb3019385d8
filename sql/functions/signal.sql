-- Runs as its owner: who may signal needs no right on pgreact's tables.
create or replace function pgreact.signal(route text) returns void
    language plpgsql
    strict
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    known integer;
    height bigint;
begin
    select r.id into known from pgreact.route r where r.name = signal.route;
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
    -- As in the triggers, the height tells the gate, which no snapshot hides; the leader shuts a route that is set
    -- closed, too. Where it has not yet, the table tells, if our snapshot of it is younger than our lock on the sequence:
    -- whoever sets the route otherwise now will find us among the holders.
    height := nextval(to_regclass('pgreact.gate_' || known));
    if height >= 4611686018427387904
        or height is not null  -- a sequence that somebody dropped
            and current_setting('transaction_isolation') = 'read committed'
            and exists (select from pgreact.route r where r.id = known and r.gate = 'closed')
    then
        perform pg_current_xact_id();  -- pgreact.set_gates needs it
    else
        perform pg_notify('pgreact', known::text);
    end if;
end
$$;
comment on function pgreact.signal(text) is 'signals a route when the transaction commits';
revoke all on function pgreact.signal(text) from public;
