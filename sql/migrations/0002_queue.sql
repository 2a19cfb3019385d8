-- The queue: jobs that are enqueued in a transaction of yours, and the lanes that carry their limits.

create table pgreact.lane (
    name text primary key
        check (length(name) between 1 and 255 and name !~ '[[:cntrl:]]'),
    max_in_progress integer
        check (max_in_progress >= 0),
    max_unstarted integer not null default 200
        check (max_unstarted >= 1),
    max_lost integer not null default 3
        check (max_lost >= 0),
    weight integer not null default 1
        check (weight between 1 and 1000),
    rate double precision
        check (rate between 1e-6 and 1e6),
    burst integer not null default 1
        check (burst >= 1),
    paused boolean not null default false,
    tasks text[]
        check (array_ndims(tasks) = 1 and array_position(tasks, null) is null),
    origin text not null default 'sql'
        check (origin in ('sql', 'config', 'queue'))
);
comment on table pgreact.lane is 'a named class of jobs that carries their limits; a committed change is in force at once';
comment on column pgreact.lane.max_in_progress is 'so many of its jobs are in progress at most; null: as many as the queue allows';
comment on column pgreact.lane.max_unstarted
    is 'messages of its jobs in the broker at most, that no worker has started';
comment on column pgreact.lane.max_lost
    is 'so often a job is repeated whose worker died; 0: a job runs at most once. A job may say otherwise';
comment on column pgreact.lane.weight is 'its share of the places when several lanes want them';
comment on column pgreact.lane.rate is 'jobs a second at most; null: no limit';
comment on column pgreact.lane.burst is 'so many may go at once after a quiet time, where there is a rate';
comment on column pgreact.lane.tasks
    is 'the only tasks that may be enqueued into it; null: any, or where its origin is queue, those of lane default';
comment on column pgreact.lane.origin
    is 'config: kept by "pgreact apply"; sql: left alone by it; queue: as sql, and made for a Celery queue by itself';

insert into pgreact.lane (name) values ('default');

-- The routing is the Celery application's. The leader asks it for a task that is new, and for all when it is elected.
create table pgreact.task (
    name text primary key,
    queue text not null,
    expires interval
);
comment on table pgreact.task is 'what the Celery application says of the tasks that were enqueued; kept by the leader';
comment on column pgreact.task.queue is 'the Celery queue it is routed to, whose lane its jobs are of where they name none';
comment on column pgreact.task.expires is 'the option of the task''s class';

create table pgreact.queue_setting (
    one boolean primary key default true check (one),
    max_in_progress integer
        check (max_in_progress >= 0),
    lease interval not null default '60 s'
        check (lease between interval '1 s' and interval '1 day'),
    retention interval
        check (retention between interval '1 hour' and interval '3650 days'),
    dead_retention interval
        check (dead_retention between interval '1 hour' and interval '3650 days'),
    start_within interval default '7 days'
        check (start_within between interval '1 hour' and interval '3650 days')
);
comment on table pgreact.queue_setting is 'one row: what holds for all lanes together';
comment on column pgreact.queue_setting.max_in_progress is 'jobs in progress at most; null: no limit';
comment on column pgreact.queue_setting.lease
    is 'a job whose worker said nothing for so long is taken for lost, a message nobody started for sent in vain';
comment on column pgreact.queue_setting.retention is 'how long settled jobs stay in pgreact.history; null: they are not kept';
comment on column pgreact.queue_setting.dead_retention
    is 'how long dead jobs stay in pgreact.dead; null: until they are retried or purged';
comment on column pgreact.queue_setting.start_within
    is 'an attempt that no worker started for so long is dead as unstarted; null: its message is sent for ever';

insert into pgreact.queue_setting default values;

-- Only the dispatcher writes these two, once a claim: fillfactor leaves room for HOT updates.
create table pgreact.queue_state (
    one boolean primary key default true check (one),
    virtual_time double precision not null default 0,
    claim_number bigint not null default 0,
    oldest_claim bigint not null default 0,
    oldest_contested bigint not null default 0,
    held bigint[] not null default '{}'
) with (fillfactor = 50);
comment on table pgreact.queue_state is 'one row, locked by a claim: claims come one after the other';
comment on column pgreact.queue_state.claim_number is 'claims that took jobs';
comment on column pgreact.queue_state.oldest_claim is 'no job in progress is of an earlier round';
comment on column pgreact.queue_state.oldest_contested is 'no row of contested_key is of an earlier round';
comment on column pgreact.queue_state.held
    is 'jobs whose lease had ended at the last claim, while another transaction held their rows';

insert into pgreact.queue_state default values;

create table pgreact.lane_state (
    lane text primary key,
    virtual_time double precision not null default 0,
    tokens double precision,
    tokens_at timestamptz,
    claimed bigint not null default 0,
    claim_number bigint not null default 0,
    recent double precision not null default 0,
    recent_at timestamptz not null default now()
) with (fillfactor = 50);
comment on table pgreact.lane_state is 'what the dispatcher remembers of a lane: its turn, its tokens, its rate';
comment on column pgreact.lane_state.virtual_time is 'jobs claimed divided by weight; the lane with the lowest is next';
comment on column pgreact.lane_state.tokens is 'of its rate, at tokens_at; null: all of its burst';
comment on column pgreact.lane_state.claim_number is 'the last claim that took a job of it';
comment on column pgreact.lane_state.recent is 'claims of late, each counting less by the minute: a rate, times 60 s';

-- A busy queue is mostly dead rows: vacuum soon, and without pauses.
create table pgreact.queue (
    id bigint generated by default as identity primary key,
    state text not null default 'ready'
        check (state in ('ready', 'delayed', 'blocked')),
    lane text,
    task text not null,
    args jsonb not null default '[]',
    kwargs jsonb not null default '{}',
    priority integer not null default 0,
    run_at timestamptz not null default clock_timestamp(),
    key text,
    unique_key text,
    unique_while text not null default 'queued'
        check (unique_while in ('queued', 'in_progress')),
    attempt integer not null default 0,
    max_attempts integer not null default 1
        check (max_attempts >= 1),
    lost integer not null default 0,
    max_lost integer
        check (max_lost >= 0),
    backoff interval not null default '5 s'
        check (backoff >= interval '0'),
    expires timestamptz,
    options jsonb not null default '{}',
    enqueued_at timestamptz not null default clock_timestamp(),
    task_id uuid not null default gen_random_uuid(),
    resume jsonb,
    retrying boolean not null generated always as (resume is not null) stored,
    error text,
    size integer
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_analyze_scale_factor = 0.2);
comment on table pgreact.queue is 'jobs that wait; add one by pgreact.enqueue, remove one by pgreact.cancel';
comment on column pgreact.queue.state
    is 'ready: may be claimed; delayed: not before run_at; blocked: another of its key comes first';
comment on column pgreact.queue.lane
    is 'null: of the Celery queue that its task is routed to, which the leader is yet to say; till then no claim takes it';
comment on column pgreact.queue.priority is 'higher comes first within a lane';
comment on column pgreact.queue.key is 'jobs of one key run one at a time, in the order of their ids';
comment on column pgreact.queue.unique_key is 'there is one queued job of it';
comment on column pgreact.queue.attempt is 'attempts so far';
comment on column pgreact.queue.max_attempts is 'so many attempts may fail; those that were lost do not count';
comment on column pgreact.queue.lost is 'attempts whose worker died';
comment on column pgreact.queue.max_lost is 'so many may be; null: as the lane has it';
comment on column pgreact.queue.resume
    is 'the message by which its task asked to be run again: it waits for that, and its attempt goes on';
comment on column pgreact.queue.retrying is 'whether there is such a message, for roles that may not read it';
comment on column pgreact.queue.backoff is 'pause after the first failed attempt, doubled by each further one, 1 h at most';
comment on column pgreact.queue.expires is 'what has not started by then is dead';
comment on column pgreact.queue.options is 'options of apply_async';
comment on column pgreact.queue.task_id is 'Celery''s id of the task, the same for every attempt';
comment on column pgreact.queue.error is 'of the last attempt';
comment on column pgreact.queue.size
    is 'bytes of args, kwargs and options as text, of which a claim takes only so many; null: the claim is to measure';

create index queue_ready on pgreact.queue (lane, priority desc, run_at, id) where state = 'ready';
create index queue_delayed on pgreact.queue (run_at) where state = 'delayed';
create index queue_key on pgreact.queue (key, id) where key is not null;
create unique index queue_unique on pgreact.queue (unique_key) where unique_key is not null;

-- Written where a transaction could not lock the row that decides whether the next job of a key may go; see unblock_next.
create table pgreact.contested_key (
    id bigint generated always as identity primary key,
    key text not null,
    claim_number bigint not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
comment on table pgreact.contested_key is 'keys whose first waiting job each claim looks at, until it is sure that another will let it go';
comment on column pgreact.contested_key.claim_number
    is 'of the job in front, or of the claim; the largest number: a job that waited was taken away';

create index contested_key_claim on pgreact.contested_key (claim_number);

create table pgreact.in_progress (
    id bigint primary key,
    lane text not null,
    task text not null,
    args jsonb not null,
    kwargs jsonb not null,
    priority integer not null,
    run_at timestamptz not null,
    key text,
    unique_key text,
    unique_while text not null,
    attempt integer not null,
    max_attempts integer not null,
    lost integer not null default 0,
    max_lost integer,
    backoff interval not null,
    expires timestamptz,
    options jsonb not null,
    resume jsonb,
    enqueued_at timestamptz not null,
    task_id uuid not null,
    claim_id uuid not null default gen_random_uuid(),
    claimed_at timestamptz not null,
    published_at timestamptz,
    publishes integer not null default 0,
    started_at timestamptz,
    retries integer not null default -1,
    worker text,
    lease_until timestamptz not null,
    claim_number bigint not null default 0,
    size integer not null default 0
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0);
comment on table pgreact.in_progress is 'jobs that were claimed and are not settled yet, each under a lease';
comment on column pgreact.in_progress.claim_number is 'of the claim';
comment on column pgreact.in_progress.claim_id is 'tells the messages of this claim from those of others of the same job';
comment on column pgreact.in_progress.publishes is 'messages sent in vain for this attempt';
comment on column pgreact.in_progress.retries is 'the last of Celery''s own retries that was started; -1: none was';

create index in_progress_claim on pgreact.in_progress (claim_number);
create index in_progress_key on pgreact.in_progress (key) where key is not null;
create index in_progress_unique on pgreact.in_progress (unique_key) where unique_key is not null;

create table pgreact.dead (
    id bigint primary key,
    lane text,
    task text not null,
    args jsonb not null,
    kwargs jsonb not null,
    priority integer not null,
    key text,
    attempt integer not null,
    max_attempts integer not null,
    max_lost integer,
    backoff interval not null,
    options jsonb not null,
    enqueued_at timestamptz not null,
    task_id uuid not null default gen_random_uuid(),
    died_at timestamptz not null default clock_timestamp(),
    outcome text not null,
    error text
);
comment on table pgreact.dead is 'jobs that ended without success and will not run again, unless pgreact.retry says so';
comment on column pgreact.dead.outcome is 'failed, lost, expired, revoked, rejected, invalid, unstarted (no worker ever took its messages)';
create index dead_died on pgreact.dead (died_at);

-- Dropped by partition, so that keeping costs no vacuum.
create table pgreact.history (
    id bigint not null,
    lane text,
    task text not null,
    key text,
    attempt integer not null,
    outcome text not null,
    error text,
    task_id uuid,
    worker text,
    enqueued_at timestamptz not null,
    claimed_at timestamptz,
    started_at timestamptz,
    settled_at timestamptz not null,
    primary key (id, settled_at)
) partition by range (settled_at);
comment on table pgreact.history is 'attempts that were settled, kept as long as queue_setting.retention says';

-- Not a default partition: attaching another one would lock that against all who read it.
create table pgreact.history_rest (like pgreact.history including all);
comment on table pgreact.history_rest is 'attempts of days that had no partition yet, until maintain_history moves them there';
create index history_rest_settled on pgreact.history_rest (settled_at);

create table pgreact.outbox (
    relation regclass not null,
    event text not null check (event in ('insert', 'update', 'delete', 'truncate')),
    task text not null check (task <> ''),
    lane text,
    condition text check (condition <> ''),
    changed text[] check (changed is null or cardinality(changed) > 0 and event = 'update'),
    always boolean not null default false,
    origin text not null default 'sql' check (origin in ('sql', 'config')),
    definition text,
    attached_as text,
    primary key (relation, event, task)
);
comment on table pgreact.outbox is 'which change of which table enqueues a job; kept by attach and detach';
comment on column pgreact.outbox.changed is 'an update enqueues if it changes one of these columns; null: any update does';
comment on column pgreact.outbox.attached_as
    is 'the name that the table had when it was attached: another table of that name is to be told of';
comment on column pgreact.outbox.always
    is 'its trigger is enabled ALWAYS: rows that logical replication applies count, too';
comment on column pgreact.outbox.definition
    is 'the trigger as PostgreSQL showed it when it was attached; a column renamed since then makes a difference';

-- 0: those of users begin at 1
insert into pgreact.route (id, name, task, "window", gate_poll, gate_close_rate, ready)
overriding system value
values (0, 'pgreact.queue', 'pgreact.dispatch_next_available', '5 ms', '20 ms', 200,
    'select exists (select from pgreact.queue) or exists (select from pgreact.in_progress)'
    ' or exists (select from pgreact.queue_setting where num_nonnulls(retention, dead_retention) > 0)');

create domain pgreact.lane_name as text;
comment on domain pgreact.lane_name is 'tells attach for a task from attach for a route';

create trigger unwatch after delete on pgreact.outbox
    for each row execute function pgreact.unwatch();

-- Without it what is settled next would be in the history only after the next housekeeping.
create function pgreact.retention_changed() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform pgreact.extend_history();
    return null;
end
$$;
comment on function pgreact.retention_changed() is 'makes the partitions of a history that begins';
revoke all on function pgreact.retention_changed() from public;

create trigger retention after insert or update of retention on pgreact.queue_setting
    for each row when (new.retention is not null) execute function pgreact.retention_changed();
