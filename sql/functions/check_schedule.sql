-- What can be known to be wrong is refused here, where somebody looks at the error.
create or replace function pgreact.check_schedule(schedule pgreact.schedule) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    job pgreact.queue;
begin
    if num_nonnulls(schedule.every, schedule.cron, schedule.at, schedule.solar, schedule.rrule) <> 1 then
        raise exception 'schedule "%" says in % ways when it recurs', schedule.name,
            num_nonnulls(schedule.every, schedule.cron, schedule.at, schedule.solar, schedule.rrule)
            using errcode = 'check_violation', hint = 'Set exactly one of every, cron, at, solar and rrule.';
    end if;
    if schedule.every is not null and (
        schedule.every not between interval '100 ms' and interval '3650 days'
        or extract(year from schedule.every) <> 0 or extract(month from schedule.every) <> 0)
    then
        raise exception 'schedule "%": every is %', schedule.name, schedule.every
            using errcode = 'check_violation',
                hint = 'It is 100 ms at least and 3650 days at most, without months or years, which differ in length: '
                    'write those as cron or rrule.';
    end if;
    if schedule.solar is not null then
        if schedule.solar !~ '^(sunrise|sunset|solar_noon|(dawn|dusk)_(astronomical|nautical|civil)) -?\d{1,2}(\.\d+)? -?\d{1,3}(\.\d+)?$'
            or abs(split_part(schedule.solar, ' ', 2)::numeric) > 90 or abs(split_part(schedule.solar, ' ', 3)::numeric) > 180
        then
            raise exception 'solar "%" is no event, latitude and longitude', schedule.solar
                using errcode = 'invalid_parameter_value',
                    hint = 'Like "sunset 48.86 2.35". Events are sunrise, solar_noon, sunset, and dawn_ or dusk_ with civil, '
                        'nautical or astronomical.';
        end if;
    end if;
    if not schedule.overlap and schedule.delivery = 'direct' then
        raise exception 'schedule "%": overlap = false needs delivery = ''queue''', schedule.name
            using errcode = 'check_violation', hint = 'Nobody tells when a message that was sent has run.';
    end if;
    if schedule.end_at <= schedule.start_at then
        raise exception 'schedule "%" ends before it starts', schedule.name
            using errcode = 'check_violation', hint = 'end_at lies after start_at.';
    end if;
    job.task := schedule.task;
    job.args := schedule.args;
    job.kwargs := schedule.kwargs;
    job.options := schedule.options;
    job.max_attempts := schedule.max_attempts;
    job.backoff := interval '0';
    job.unique_while := 'queued';
    job.lane := case schedule.delivery when 'queue' then schedule.lane end;
    -- one query for all: schedules come by the thousand
    perform pgreact.check_cron(schedule.cron), pgreact.check_rrule(schedule.rrule), pgreact.check_timezone(schedule.timezone),
        pgreact.check_job(job);
end
$$;
comment on function pgreact.check_schedule(pgreact.schedule) is 'refuses a schedule that cannot be right';
revoke all on function pgreact.check_schedule(pgreact.schedule) from public;
