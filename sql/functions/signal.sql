-- Signals a route as a trigger does. Cases:
-- - the transaction is muted: nothing
-- - the route's gate is closed: the number taken from its sequence is what the leader's polls find
-- - otherwise: NOTIFY, with the trace context of setting pgreact.traceparent, if any
-- Runs as its owner, so that the caller needs no right on pgreact's tables.
create or replace function pgreact.signal(route text) returns void
    language plpgsql
    strict
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    known integer;
    sequence_value bigint;
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
    -- As in the triggers the sequence value tells the gate, since no snapshot hides it; the leader sets it for a route that
    -- is set closed, too. Before it has done so the table tells, if this snapshot is younger than the lock on the sequence:
    -- a change of the route's setting after that finds this transaction among the holders.
    sequence_value := nextval(to_regclass('pgreact.gate_' || known));
    if sequence_value >= 4611686018427387904
        or sequence_value is not null  -- null: the sequence was dropped by hand
            and current_setting('transaction_isolation') = 'read committed'
            and exists (select from pgreact.route r where r.id = known and r.gate = 'closed')
    then
        perform pg_current_xact_id();  -- by which pgreact.set_gates finds this transaction
    else
        perform pg_notify('pgreact', concat_ws(' ', known, case
            when current_setting('pgreact.traceparent', true) <> '' then pgreact.trace_context() ->> 'traceparent'
        end));
    end if;
end
$$;
comment on function pgreact.signal(text) is 'signals a route when the transaction commits';
revoke all on function pgreact.signal(text) from public;
