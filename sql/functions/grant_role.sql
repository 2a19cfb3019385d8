create or replace function pgreact.grant_role(role regrole, kind text) returns void
    language plpgsql
    strict
    set search_path = pg_catalog, pg_temp
as $$
begin
    case kind
        when 'daemon' then
            execute format('grant usage on schema pgreact to %s', role);
            execute format('grant select on pgreact.migration, pgreact.route, pgreact.watched to %s', role);
            execute format('grant select, insert, update on pgreact.flight to %s', role);
            execute format('grant execute on function pgreact.lead(text, interval), pgreact.lock_class(text), '
                'pgreact.look(integer[]), pgreact.set_gates(integer[], bigint) to %s', role);
        when 'signaller' then
            execute format('grant usage on schema pgreact to %s', role);
            execute format('grant execute on function pgreact.signal(text), pgreact.mute() to %s', role);
        when 'worker' then
            -- only the decorator asks: a message says by itself which route it is of
            execute format('grant usage on schema pgreact to %s', role);
            execute format('grant select (id, name) on pgreact.route to %s', role);
        else
            raise exception 'no kind of role "%"', kind
                using errcode = 'invalid_parameter_value',
                    hint = 'Kinds are daemon (runs "pgreact listen"), signaller (calls pgreact.signal and '
                        'pgreact.mute) and worker (uses @pgreact.single_flight). Who only writes the watched tables needs nothing.';
    end case;
end
$$;
comment on function pgreact.grant_role(regrole, text) is 'gives a role what a daemon or a signaller needs, and no more';
revoke all on function pgreact.grant_role(regrole, text) from public;
