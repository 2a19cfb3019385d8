create or replace function pgreact.check_lane(lane text, task text, options jsonb default '{}') returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    tasks text[];
begin
    select l.tasks into tasks from pgreact.lane l where l.name = check_lane.lane;
    if not found then
        raise exception 'no lane "%" in pgreact.lane', lane
            using errcode = 'undefined_object',
                hint = 'Lanes are ' || (select string_agg(l.name, ', ' order by l.name) from pgreact.lane l)
                    || '; insert it there first, or name it in pgreact.toml and run "pgreact apply".';
    end if;
    if tasks is not null then
        if task <> all (tasks) then
            raise exception 'lane "%" does not take task %', lane, task
                using errcode = 'insufficient_privilege',
                    hint = 'It is held to a list, column tasks of pgreact.lane: add the task there, or use another lane.';
        end if;
        if options ?| '{link,link_error,chain,chord}' then
            raise exception 'job %: lane "%" is held to a list of tasks, so its jobs call no others', task, lane
                using errcode = 'insufficient_privilege', hint = 'Leave out link, link_error, chain and chord.';
        end if;
    end if;
end
$$;
comment on function pgreact.check_lane(text, text, jsonb) is 'refuses a lane that there is not, and a task that it does not take';
revoke all on function pgreact.check_lane(text, text, jsonb) from public;
