create or replace function pgreact.check_lane(lane text) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform from pgreact.lane l where l.name = check_lane.lane;
    if not found then
        raise exception 'no lane "%" in pgreact.lane', lane
            using errcode = 'undefined_object',
                hint = 'Lanes are ' || (select string_agg(l.name, ', ' order by l.name) from pgreact.lane l)
                    || '; insert it there first, or name it in pgreact.toml and run "pgreact apply".';
    end if;
end
$$;
comment on function pgreact.check_lane(text) is 'refuses a lane that there is not';
revoke all on function pgreact.check_lane(text) from public;
