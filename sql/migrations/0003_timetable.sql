-- The timetable: schedules as rows. What is due is enqueued by the transaction that moves its schedule on.

create table pgreact.schedule (
    id bigint generated always as identity primary key,
    name text not null unique
        check (length(name) between 1 and 200),
    task text not null,
    args jsonb not null default '[]',
    kwargs jsonb not null default '{}',
    every interval,
    cron text,
    cron_and boolean not null default false,
    at timestamptz,
    solar text,
    rrule text,
    timezone text not null default 'UTC',
    anchor timestamptz,
    enabled boolean not null default true,
    start_at timestamptz,
    end_at timestamptz,
    max_runs bigint
        check (max_runs >= 1),
    jitter interval not null default '0'
        check (jitter between interval '0' and interval '31 days'),
    misfire text not null default 'coalesce'
        check (misfire in ('coalesce', 'skip', 'all')),
    grace interval not null default '1 min'
        check (grace between interval '0' and interval '3650 days'),
    catch_up integer not null default 100
        check (catch_up between 1 and 10000),
    overlap boolean not null default true,
    delivery text not null default 'queue'
        check (delivery in ('queue', 'direct')),
    lane text,
    priority integer not null default 0,
    max_attempts integer not null default 1
        check (max_attempts >= 1),
    options jsonb not null default '{}',
    expires interval
        check (expires > interval '0' and expires <= interval '3650 days'),
    history interval
        check (history between interval '1 hour' and interval '3650 days'),
    description text not null default '',
    origin text not null default 'sql'
        check (origin in ('sql', 'config', 'app')),
    entry jsonb,
    created_at timestamptz not null default clock_timestamp(),
    state text not null default 'new'
        check (state in ('new', 'planned', 'ended', 'failed')),
    next_nominal_at timestamptz,
    next_run_at timestamptz,
    last_nominal_at timestamptz,
    last_run_at timestamptz,
    last_job bigint,
    last_error text,
    run_count bigint not null default 0,
    misfire_count bigint not null default 0,
    replanned_at timestamptz,
    turn bigint not null default 0,
    constraint schedule_recurs_one_way check (num_nonnulls(every, cron, at, solar, rrule) = 1),
    -- months have no fixed length; cron and rrule know them
    constraint schedule_every_is_fixed check (
        every between interval '100 ms' and interval '36500 days'
        and extract(year from every) = 0 and extract(month from every) = 0),
    constraint schedule_overlap_needs_the_queue check (overlap or delivery = 'queue'),
    check (end_at > start_at),
    -- the calendars of the leader and of the command line go no further
    constraint schedule_times_lie_in_the_calendar check (
        coalesce(least(at, anchor, start_at, end_at, created_at, next_nominal_at, next_run_at, last_nominal_at, last_run_at)
                >= '0001-01-02 00:00Z'
            and greatest(at, anchor, start_at, end_at, created_at, next_nominal_at, next_run_at, last_nominal_at, last_run_at)
                < '9999-12-31 00:00Z', true))
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
comment on table pgreact.schedule is 'periodic work, a row each; a committed change is in force at once';
comment on column pgreact.schedule.every is 'on a grid from the anchor; a day is 24 h';
comment on column pgreact.schedule.cron is 'five fields, or six with seconds first, or @daily and the like';
comment on column pgreact.schedule.cron_and
    is 'day of month and day of week must both match, as in Celery; otherwise either, as in cron';
comment on column pgreact.schedule.at is 'once';
comment on column pgreact.schedule.solar is 'event, latitude and longitude, like "sunset 48.86 2.35"';
comment on column pgreact.schedule.rrule is 'RFC 5545, like "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17;BYMINUTE=0;BYSECOND=0"';
comment on column pgreact.schedule.timezone is 'cron and rrule are read in it';
comment on column pgreact.schedule.anchor is 'of the grid, and where an rrule begins; null: start_at, else created_at';
comment on column pgreact.schedule.jitter is 'each occurrence is put off by less than this, by a hash of name and occurrence';
comment on column pgreact.schedule.misfire
    is 'what is fired of occurrences found late: coalesce: the last; skip: none later than grace; all: each';
comment on column pgreact.schedule.grace is 'what is found later than this is a misfire';
comment on column pgreact.schedule.catch_up is 'so many occurrences are caught up at most, the newest';
comment on column pgreact.schedule.overlap
    is 'false: an occurrence is dropped while the job of the one before is queued or in progress';
comment on column pgreact.schedule.delivery is 'queue: enqueues a job; direct: sends the message itself';
comment on column pgreact.schedule.lane
    is 'of the job, as priority and max_attempts; null: that of the Celery queue its task is routed to';
comment on column pgreact.schedule.options is 'options of apply_async';
comment on column pgreact.schedule.expires is 'a job or message that is not started within this time of its firing does not run';
comment on column pgreact.schedule.history is 'how long pgreact.schedule_history remembers; null: it does not';
comment on column pgreact.schedule.origin
    is 'config: kept by "pgreact apply"; app: kept by "celery beat" from beat_schedule; sql: left alone by both';
comment on column pgreact.schedule.entry is 'what the configuration said when it was last applied';
comment on column pgreact.schedule.state
    is 'new: to be planned; planned: waits for next_run_at; ended: never again; failed: see last_error';
comment on column pgreact.schedule.next_nominal_at is 'the next occurrence';
comment on column pgreact.schedule.next_run_at is 'when it is fired: with jitter, or as you set it';
comment on column pgreact.schedule.last_nominal_at is 'the last occurrence that was dealt with';
comment on column pgreact.schedule.replanned_at
    is 'when the leader found the next run further away than the rule explains, since the clock had been ahead, and planned anew';
comment on column pgreact.schedule.turn is 'moves on with each edit and each firing: a leader that has read an older one is too late';

create index schedule_due on pgreact.schedule (delivery, next_run_at, id) where state = 'planned' and enabled;
create index schedule_new on pgreact.schedule (delivery, id) where state = 'new' and enabled;
create index schedule_failed on pgreact.schedule (name) where state = 'failed';
create index schedule_origin on pgreact.schedule (origin, name) where origin <> 'sql';

create table pgreact.schedule_history (
    schedule text not null,
    nominal_at timestamptz not null,
    fired_at timestamptz not null,
    outcome text not null,
    job bigint,
    task_id uuid,
    error text
);
-- an occurrence may be there twice, so it has no key by which a publication of all tables could name its rows
alter table pgreact.schedule_history replica identity full;
comment on table pgreact.schedule_history is 'what became of occurrences, where the schedule says history';
comment on column pgreact.schedule_history.outcome is 'fired, missed, overlapped or failed';
create index schedule_history_schedule on pgreact.schedule_history (schedule, fired_at);

create function pgreact.schedule_edited() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    recurs_otherwise boolean := tg_op = 'UPDATE'
        and (new.every, new.cron, new.cron_and, new.at, new.solar, new.rrule, new.timezone, new.anchor, new.start_at)
            is distinct from (old.every, old.cron, old.cron_and, old.at, old.solar, old.rrule, old.timezone, old.anchor,
                old.start_at);
    planned_anew boolean := tg_op = 'INSERT' or new.next_run_at is distinct from old.next_run_at;
begin
    perform pgreact.check_schedule(new);
    if tg_op = 'UPDATE' and (
        recurs_otherwise
        or (new.end_at, new.max_runs, new.jitter, new.name) is distinct from (old.end_at, old.max_runs, old.jitter, old.name)
        or new.enabled and (not old.enabled or old.state = 'failed'))
    then
        if not planned_anew then
            new.next_run_at := null;
        end if;
        -- What recurs as before goes on from where it is, so that an occurrence that is just due is not lost. An import says
        -- itself what is due.
        if (recurs_otherwise or not old.enabled) and new.next_nominal_at is not distinct from old.next_nominal_at then
            new.next_nominal_at := null;
        end if;
        -- what fell due while it was disabled is not made up for, what is to happen once neither
        if not old.enabled and not planned_anew and new.at is not distinct from old.at and new.at <= pgreact.clock_now() then
            new.last_nominal_at := greatest(new.last_nominal_at, new.at);
        end if;
        new.last_error := null;
        planned_anew := true;
    end if;
    if planned_anew then
        new.state := case when new.next_run_at is null then 'new' else 'planned' end;
    end if;
    -- after the highest comes the lowest
    new.turn := case when new.turn < 9223372036854775807 then new.turn + 1 else -9223372036854775808 end;
    -- a full queue would fail the edit; whoever fires looks without being told, long before it is full
    if pg_notification_queue_usage() < 0.5 then
        perform pg_notify('pgreact', 'schedule');
    end if;
    return new;
end
$$;
comment on function pgreact.schedule_edited() is 'checks a schedule, has it planned anew where that is needed, and tells the leader';
revoke all on function pgreact.schedule_edited() from public;

-- pgreact.fire() writes none of the columns that users write but next_run_at, and moves turn on, which no granted role can.
create trigger edited_insert before insert on pgreact.schedule
    for each row execute function pgreact.schedule_edited();
create trigger edited_update before update of name, task, args, kwargs, every, cron, cron_and, at, solar, rrule, timezone, anchor,
        enabled, start_at, end_at, max_runs, jitter, misfire, grace, catch_up, overlap, delivery, lane, priority, max_attempts,
        options, expires, history, description, origin, entry
    on pgreact.schedule
    for each row execute function pgreact.schedule_edited();
-- fires after the other one, and not if that one did
create trigger rerun_update before update of next_run_at on pgreact.schedule
    for each row when (new.turn = old.turn) execute function pgreact.schedule_edited();
