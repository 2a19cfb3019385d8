-- A lane that came into being for a Celery queue is held to the list of lane "default", until it has a list of its own: else
-- the option "queue" would lead around that list.
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
                    hint = 'It is held to a list, column tasks of pgreact.lane: add the task there, or use another lane.';
        end if;
        if options ?| '{link,link_error,chain,chord}' then
            raise exception 'job %: lane "%" is held to a list of tasks, so its jobs call no others', task,
                coalesce(lane, 'default')
                using errcode = 'insufficient_privilege', hint = 'Leave out link, link_error, chain and chord.';
        end if;
    end if;
end
$$;
comment on function pgreact.check_lane(text, text, jsonb, boolean)
    is 'refuses a lane that was named and is not there, and a task that a lane does not take';
revoke all on function pgreact.check_lane(text, text, jsonb, boolean) from public;
