-- The body of every trigger. A changed body of another meaning gets a new number, so that the triggers
-- of an older release work on until "pgreact apply" replaces them.
create or replace function pgreact.signal_v1() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('pgreact.muted', true) = 'on' then
        return null;
    end if;
    -- A statement that changed no row is no change. Without this test a dispatch that finds nothing to
    -- claim would signal itself for ever.
    if tg_level = 'STATEMENT' and tg_op <> 'TRUNCATE' then
        if not exists (select from changed) then
            return null;
        end if;
    end if;
    -- The payload is constant, so PostgreSQL folds the repeats of one transaction.
    perform pg_notify('pgreact', tg_argv[0]);
    return null;
end
$$;
comment on function pgreact.signal_v1() is 'trigger: signals the route whose id is its argument, on commit';
revoke all on function pgreact.signal_v1() from public;
