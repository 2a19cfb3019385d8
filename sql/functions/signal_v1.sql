-- Never runs: the work of a trigger is in its WHEN, see attach. The number is the version of that work, and the arguments are
-- the route and its gate. Another meaning gets another number, so that the triggers of an older release work until
-- "pgreact apply" replaces them.
create or replace function pgreact.signal_v1() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    return null;
end
$$;
comment on function pgreact.signal_v1() is 'marks the triggers that signal a route; its arguments are the route''s id and gate';
revoke all on function pgreact.signal_v1() from public;
