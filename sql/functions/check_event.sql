-- Refuses an unknown event of a watched table, and a condition for truncate, which has no rows to test.
create or replace function pgreact.check_event(change text, condition text) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if change is null or change not in ('insert', 'update', 'delete', 'truncate') then
        raise exception 'no event "%"', change
            using errcode = 'invalid_parameter_value',
                hint = 'Events are insert, update, delete and truncate.';
    end if;
    if change = 'truncate' and condition is not null then
        raise exception 'a truncate has no rows, so it takes no condition'
            using errcode = 'invalid_parameter_value',
                hint = 'Attach truncate in a call of its own.';
    end if;
end
$$;
comment on function pgreact.check_event(text, text) is 'refuses an unknown event, and a condition for truncate, which has no rows';
revoke all on function pgreact.check_event(text, text) from public;
