-- The timetable: schedules as rows, and the history of their occurrences.

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
    retention interval
        check (retention between interval '1 hour' and interval '3650 days'),
    description text not null default '',
    origin text not null default 'sql'
        check (origin in ('sql', 'config', 'app')),
    entry jsonb,
    created_at timestamptz not null default pgreact.clock_now(),
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
    planned_at timestamptz,
    replanned_at timestamptz,
    revision bigint not null default 0,
    constraint schedule_recurs_one_way check (num_nonnulls(every, cron, at, solar, rrule) = 1),
    -- months and years differ in length: cron and rrule are for them
    constraint schedule_every_is_fixed check (
        every between interval '100 ms' and interval '36500 days'
        and extract(year from every) = 0 and extract(month from every) = 0),
    constraint schedule_overlap_needs_the_queue check (overlap or delivery = 'queue'),
    check (end_at > start_at),
    -- the range of Python's calendar
    constraint schedule_times_lie_in_the_calendar check (
        coalesce(least(at, anchor, start_at, end_at, created_at, next_nominal_at, next_run_at, last_nominal_at, last_run_at)
                >= '0001-01-02 00:00Z'
            and greatest(at, anchor, start_at, end_at, created_at, next_nominal_at, next_run_at, last_nominal_at, last_run_at)
                < '9999-12-31 00:00Z', true))
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
comment on table pgreact.schedule is 'one row for each schedule; a committed change takes effect at once';
comment on column pgreact.schedule.every is 'the interval of a grid from the anchor; a day is 24 h';
comment on column pgreact.schedule.cron is 'five fields, or six with seconds first, or @daily and the like';
comment on column pgreact.schedule.cron_and
    is 'day of month and day of week must both match, as in Celery; otherwise either, as in cron';
comment on column pgreact.schedule.at is 'the only occurrence';
comment on column pgreact.schedule.solar is 'event, latitude and longitude, like "sunset 48.86 2.35"';
comment on column pgreact.schedule.rrule is 'RFC 5545, like "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17;BYMINUTE=0;BYSECOND=0"';
comment on column pgreact.schedule.timezone is 'IANA name of the time zone of cron and rrule';
comment on column pgreact.schedule.anchor is 'where the grid of every, or an rrule, begins; null: start_at, else created_at';
comment on column pgreact.schedule.jitter is 'each occurrence is delayed by less than this, by a hash of name and occurrence';
comment on column pgreact.schedule.misfire
    is 'which occurrences found late are fired: coalesce: the last; skip: none later than grace; all: each';
comment on column pgreact.schedule.grace is 'an occurrence found later than this is a misfire';
comment on column pgreact.schedule.catch_up is 'with misfire all: how many occurrences found late are fired at most, the newest';
comment on column pgreact.schedule.overlap
    is 'false: an occurrence is dropped while the job of the one before is queued or in progress';
comment on column pgreact.schedule.delivery is 'queue: enqueue a job; direct: send the message';
comment on column pgreact.schedule.lane
    is 'lane of its jobs; null: that of the Celery queue its task is routed to';
comment on column pgreact.schedule.options is 'options of apply_async';
comment on column pgreact.schedule.expires is 'a job or message not started within this time of its firing is discarded';
comment on column pgreact.schedule.retention is 'how long pgreact.schedule_history keeps its occurrences; null: not at all';
comment on column pgreact.schedule.origin
    is 'config: managed by "pgreact apply"; app: managed by "celery beat" from beat_schedule; sql: by neither';
comment on column pgreact.schedule.entry is 'the entry of the configuration or source when it was last applied';
comment on column pgreact.schedule.state
    is 'new: to be planned; planned: fires at next_run_at; ended: no more occurrences; failed: see last_error';
comment on column pgreact.schedule.next_nominal_at is 'the next occurrence, without jitter';
comment on column pgreact.schedule.next_run_at is 'when it fires next: with jitter, or as set by hand';
comment on column pgreact.schedule.last_nominal_at is 'the last occurrence that was fired or missed';
comment on column pgreact.schedule.planned_at
    is 'the latest clock by which the next run was planned or set; later than now: that clock was ahead';
comment on column pgreact.schedule.replanned_at
    is 'when the leader corrected a next run that was further away than the rule explains, after the clock had been ahead';
comment on column pgreact.schedule.revision is 'changes with each edit and each firing: a plan made for an older revision is not carried out';

create index schedule_due on pgreact.schedule (delivery, next_run_at, id) where state = 'planned' and enabled;
create index schedule_new on pgreact.schedule (delivery, id) where state = 'new' and enabled;
create index schedule_planned_at on pgreact.schedule (planned_at, id) where enabled;
create index schedule_disabled on pgreact.schedule (name) where not enabled;
create index schedule_ended on pgreact.schedule (name) where state = 'ended' and enabled;
create index schedule_misfiring on pgreact.schedule (id) where enabled and misfire_count >= 3 and misfire_count > run_count;
create index schedule_replanned on pgreact.schedule (replanned_at) where replanned_at is not null;
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
-- an occurrence may occur twice, so no key identifies a row to a publication of all tables
alter table pgreact.schedule_history replica identity full;
comment on table pgreact.schedule_history is 'the occurrences of schedules with a retention';
comment on column pgreact.schedule_history.outcome is 'fired, missed, overlapped or failed';
create index schedule_history_schedule on pgreact.schedule_history (schedule, fired_at);

-- After each edit by a user. It resets the plan (state new, next_run_at null) if
--   the row is new;
--   the recurrence, end_at, max_runs, jitter or name changed;
--   the schedule was enabled, or it had failed.
-- A next_run_at that the user sets is kept, with state planned. Each edit raises the revision.
create function pgreact.schedule_edited() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    recurrence_changed boolean := tg_op = 'UPDATE'
        and (new.every, new.cron, new.cron_and, new.at, new.solar, new.rrule, new.timezone, new.anchor, new.start_at)
            is distinct from (old.every, old.cron, old.cron_and, old.at, old.solar, old.rrule, old.timezone, old.anchor,
                old.start_at);
    replan boolean := tg_op = 'INSERT' or new.next_run_at is distinct from old.next_run_at;
begin
    perform pgreact.check_schedule(new);
    if tg_op = 'UPDATE' and (
        recurrence_changed
        or (new.end_at, new.max_runs, new.jitter, new.name) is distinct from (old.end_at, old.max_runs, old.jitter, old.name)
        or new.enabled and (not old.enabled or old.state = 'failed'))
    then
        if not replan then
            new.next_run_at := null;
        end if;
        -- An unchanged recurrence keeps its next occurrence, so that one that is just due is not lost. An import sets it.
        if (recurrence_changed or not old.enabled) and new.next_nominal_at is not distinct from old.next_nominal_at then
            new.next_nominal_at := null;
        end if;
        -- occurrences due while it was disabled are not made up for, nor is "at"
        if not old.enabled and not replan and new.at is not distinct from old.at and new.at <= pgreact.clock_now() then
            new.last_nominal_at := greatest(new.last_nominal_at, new.at);
        end if;
        new.last_error := null;
        replan := true;
    end if;
    if replan then
        new.state := case when new.next_run_at is null then 'new' else 'planned' end;
        -- A plan from a clock that was ahead, here or in an import's source, is found by this.
        if new.next_run_at is not null then
            new.planned_at := greatest(pgreact.clock_now(), new.last_nominal_at, new.planned_at);
        end if;
    end if;
    -- wraps around
    new.revision := case when new.revision < 9223372036854775807 then new.revision + 1 else -9223372036854775808 end;
    -- a full notification queue would make the edit fail; before it is full, the leader polls
    if pg_notification_queue_usage() < 0.5 then
        perform pg_notify('pgreact', 'schedule');
    end if;
    return new;
end
$$;
comment on function pgreact.schedule_edited() is 'checks a schedule, resets its plan if needed, and notifies the leader';
revoke all on function pgreact.schedule_edited() from public;

-- pgreact.fire() writes none of the users' columns but next_run_at, and changes revision, which no granted role can.
create trigger edited_insert before insert on pgreact.schedule
    for each row execute function pgreact.schedule_edited();
create trigger edited_update before update of name, task, args, kwargs, every, cron, cron_and, at, solar, rrule, timezone, anchor,
        enabled, start_at, end_at, max_runs, jitter, misfire, grace, catch_up, overlap, delivery, lane, priority, max_attempts,
        options, expires, retention, description, origin, entry
    on pgreact.schedule
    for each row execute function pgreact.schedule_edited();
-- fires after edited_update, and not if that one did
create trigger rerun_update before update of next_run_at on pgreact.schedule
    for each row when (new.revision = old.revision) execute function pgreact.schedule_edited();
