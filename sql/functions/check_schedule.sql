-- Refuses a schedule that is wrong in any way that the database can know, when it is written: its name, its recurrence, its
-- interval, overlap, its times, its lane and job; then, each by a function of its own: time zone, cron, solar, job and rrule.
create or replace function pgreact.check_schedule(schedule pgreact.schedule) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    job pgreact.queue;
begin
    if schedule.name is null or length(schedule.name) not between 1 and 200 then
        raise exception 'the name of a schedule has 1 to 200 characters; this one has %', coalesce(length(schedule.name), 0)
            using errcode = 'check_violation', hint = coalesce('It begins with ' || left(nullif(schedule.name, ''), 40) || '.',
                'A schedule needs a unique name.');
    end if;
    if num_nonnulls(schedule.every, schedule.cron, schedule.at, schedule.solar, schedule.rrule) <> 1 then
        raise exception 'schedule "%" recurs in % ways', schedule.name,
            num_nonnulls(schedule.every, schedule.cron, schedule.at, schedule.solar, schedule.rrule)
            using errcode = 'check_violation', hint = 'Set exactly one of every, cron, at, solar and rrule.';
    end if;
    if schedule.every is not null and (
        schedule.every not between interval '100 ms' and interval '36500 days'
        or extract(year from schedule.every) <> 0 or extract(month from schedule.every) <> 0)
    then
        raise exception 'schedule "%": every is %', schedule.name, schedule.every
            using errcode = 'check_violation',
                hint = 'Use 100 ms to 36500 days. Months and years differ in length: write them as cron or rrule.';
    end if;
    if not schedule.overlap and schedule.delivery = 'direct' then
        raise exception 'schedule "%": overlap = false needs delivery = ''queue''', schedule.name
            using errcode = 'check_violation', hint = 'pgreact cannot know when a directly sent message has run.';
    end if;
    -- the range of Python's calendar
    if not coalesce(least(schedule.at, schedule.anchor, schedule.start_at, schedule.end_at, schedule.next_run_at)
            >= '0001-01-02Z' and greatest(schedule.at, schedule.anchor, schedule.start_at, schedule.end_at,
            schedule.next_run_at) < '9999-12-31Z', true)
    then
        raise exception 'schedule "%" names a time beyond the calendar', schedule.name
            using errcode = 'check_violation',
                hint = 'Set at, anchor, start_at, end_at and next_run_at between the years 1 and 9999; null is no limit.';
    end if;
    if schedule.end_at <= schedule.start_at then
        raise exception 'schedule "%" ends before it starts', schedule.name
            using errcode = 'check_violation', hint = 'Set end_at later than start_at.';
    end if;
    job.task := schedule.task;
    job.args := schedule.args;
    job.kwargs := schedule.kwargs;
    job.options := schedule.options;
    if schedule.delivery = 'queue'
        and (schedule.lane is not null or exists (select from pgreact.lane l where l.tasks is not null))
    then
        perform pgreact.check_lane(
            coalesce(schedule.lane, schedule.options ->> 'queue',
                (select t.queue from pgreact.task t where t.name = schedule.task)),
            schedule.task, schedule.options, schedule.lane is not null);
    end if;
    -- one query for all checks: schedules are written by the thousand
    perform pgreact.check_timezone(nullif(schedule.timezone, 'UTC')), pgreact.check_cron(schedule.cron, schedule.cron_and),
        pgreact.check_solar(schedule.solar), pgreact.check_job(job, schedule.max_attempts, null, null, null),
        pgreact.check_rrule(schedule.rrule,
            coalesce(schedule.anchor, schedule.start_at, schedule.created_at, pgreact.clock_now()), schedule.timezone);
end
$$;
comment on function pgreact.check_schedule(pgreact.schedule) is 'refuses a schedule that is wrong';
revoke all on function pgreact.check_schedule(pgreact.schedule) from public;
