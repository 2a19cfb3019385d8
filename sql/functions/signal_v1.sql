-- Never runs: the work of a trigger is in its WHEN, see attach. What is here tells which version of it a trigger
-- has, for whom and for which gate. Another meaning gets a new number, so that the triggers of an older release
-- work on until "pgreact apply" replaces them.
create or replace function pgreact.signal_v1() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    return null;
end
$$;
comment on function pgreact.signal_v1() is 'marks the triggers that signal a route; its arguments are the id and the gate';
revoke all on function pgreact.signal_v1() from public;
