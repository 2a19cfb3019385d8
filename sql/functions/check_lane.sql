-- A lane that pgreact created for a Celery queue has the task list of lane "default" until it gets one of its own: otherwise
-- the option "queue" would bypass that list.
create or replace function pgreact.check_lane(lane text, task text, options jsonb default '{}', named boolean default true)
    returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    tasks text[];
    origin text;
begin
    select l.tasks, l.origin into tasks, origin from pgreact.lane l where l.name = check_lane.lane;
    if not found and named then
        raise exception 'no lane "%" in pgreact.lane', lane
            using errcode = 'undefined_object',
                hint = 'Lanes are ' || (select string_agg(l.name, ', ' order by l.name) from pgreact.lane l)
                    || '; insert it there first, or name it in pgreact.toml and run "pgreact apply".';
    end if;
    if tasks is null and coalesce(origin, 'queue') = 'queue' then
        select l.tasks into tasks from pgreact.lane l where l.name = 'default';
    end if;
    if tasks is not null then
        if task <> all (tasks) then
            raise exception 'lane "%" does not take task %', coalesce(lane, 'default'), task
                using errcode = 'insufficient_privilege',
                    hint = 'Column tasks of pgreact.lane lists the tasks that it takes: add the task there, or use another lane.';
        end if;
        if options ?| '{link,link_error,chain,chord}' then
            raise exception 'job %: lane "%" takes listed tasks only, so its jobs may not call other tasks', task,
                coalesce(lane, 'default')
                using errcode = 'insufficient_privilege', hint = 'Remove link, link_error, chain and chord.';
        end if;
    end if;
end
$$;
comment on function pgreact.check_lane(text, text, jsonb, boolean)
    is 'refuses a named lane that does not exist, and a task that the lane does not take';
revoke all on function pgreact.check_lane(text, text, jsonb, boolean) from public;
