-- The queue: jobs that are enqueued in the user's transaction, and the lanes that carry their limits.

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
    bundle integer
        check (bundle between 1 and 1000),
    tasks text[]
        check (array_ndims(tasks) = 1 and array_position(tasks, null) is null),
    origin text not null default 'sql'
        check (origin in ('sql', 'config', 'queue'))
);
comment on table pgreact.lane is 'named classes of jobs, with their limits; a committed change takes effect at once';
comment on column pgreact.lane.max_in_progress is 'jobs of the lane in progress at most, those of a bundle counted once; null: no limit of its own';
comment on column pgreact.lane.max_unstarted
    is 'jobs of the lane at most that are in progress and that no worker has started';
comment on column pgreact.lane.max_lost
    is 'how often a job is repeated after its worker died, unless the job sets its own; 0: a job runs at most once';
comment on column pgreact.lane.weight is 'share of the free places relative to other lanes with ready jobs';
comment on column pgreact.lane.rate is 'jobs a second at most; null: no limit';
comment on column pgreact.lane.burst is 'jobs that may be claimed at once after a pause, if there is a rate';
comment on column pgreact.lane.bundle
    is 'jobs of a message at most, where a task''s jobs were measured to be short; 1: each job travels alone; null: 100';
comment on column pgreact.lane.tasks
    is 'the only tasks that may be enqueued into the lane; null: any, but for origin queue the list of lane default';
comment on column pgreact.lane.origin
    is 'config: managed by "pgreact apply"; sql: created in SQL, apply leaves it alone; queue: created by pgreact for a Celery queue';

insert into pgreact.lane (name) values ('default');

-- The Celery application decides the routing. The leader asks it about each new task, and about all tasks at its election.
create table pgreact.task (
    name text primary key,
    queue text not null,
    expires interval,
    alone boolean not null default false,
    run_s double precision
) with (fillfactor = 50);
comment on table pgreact.task is 'enqueued tasks: routing and options, as the Celery application sets them, and the time of a run';
comment on column pgreact.task.queue is 'the Celery queue the task is routed to: the lane of its jobs unless they name one';
comment on column pgreact.task.expires is 'option expires of the task''s class';
comment on column pgreact.task.alone
    is 'the task has options, such as a time limit, that need a message for each job: its jobs are not bundled';
comment on column pgreact.task.run_s
    is 'seconds that its last jobs ran, roughly: a moving average that ignores small changes; null: not measured';

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
        check (start_within between interval '1 hour' and interval '3650 days'),
    canary interval
        check (canary between interval '1 s' and interval '1 day'),
    canary_queue text
        check (length(canary_queue) between 1 and 255 and canary_queue !~ '[[:cntrl:]]')
);
comment on table pgreact.queue_setting is 'one row: settings of the whole queue';
comment on column pgreact.queue_setting.max_in_progress is 'jobs in progress at most; null: no limit';
comment on column pgreact.queue_setting.lease
    is 'without a renewal for this time a started job is lost, and an unstarted message is sent again';
comment on column pgreact.queue_setting.retention is 'how long settled attempts stay in pgreact.history; null: no history';
comment on column pgreact.queue_setting.dead_retention
    is 'how long dead jobs stay in pgreact.dead; null: until they are retried or purged';
comment on column pgreact.queue_setting.start_within
    is 'an attempt that no worker has started within this time is dead (unstarted); null: its message is sent again for ever';

comment on column pgreact.queue_setting.canary is 'how often the leader enqueues a job of task pgreact.canary; null: never';
comment on column pgreact.queue_setting.canary_queue
    is 'Celery queue, and its lane, that the canary goes through; null: the application''s default queue, and lane pgreact.canary';

insert into pgreact.queue_setting default values;

-- Only claims write queue_state and lane_state, once each: fillfactor leaves room for HOT updates.
create type pgreact.queue_head as (lane text, priority integer, run_at timestamptz, id bigint, live boolean, single boolean);
comment on type pgreact.queue_head
    is 'a place in the order of ready jobs: the first job of a lane and priority (live: whether it exists), or a single one before it';

create table pgreact.queue_state (
    one boolean primary key default true check (one),
    virtual_time double precision not null default 0,
    claim_number bigint not null default 0,
    oldest_claim bigint not null default 0,
    oldest_contested bigint not null default 0,
    held bigint[] not null default '{}',
    republished_at timestamptz,
    floors pgreact.queue_head[],
    full_read_at timestamptz,
    full_read interval,
    delayed_floor timestamptz not null default '-infinity'
) with (fillfactor = 50);
comment on table pgreact.queue_state is 'one row, which a claim locks, so that claims run one at a time';
comment on column pgreact.queue_state.virtual_time is 'start-time fair queueing: a lane that was idle continues from here';
comment on column pgreact.queue_state.claim_number is 'number of the last claim that took jobs';
comment on column pgreact.queue_state.oldest_claim is 'no job in progress has a lower claim_number';
comment on column pgreact.queue_state.oldest_contested is 'no row of contested_key has a lower claim_number';
comment on column pgreact.queue_state.held
    is 'jobs whose lease had ended at the last claim, and whose rows other transactions had locked';

comment on column pgreact.queue_state.republished_at is 'published_at of the attempts of earlier claims that a claim last returned';
comment on column pgreact.queue_state.floors
    is 'where claims read ready jobs from, until the next full read: dead index entries lie before; null: from the first entry on';
comment on column pgreact.queue_state.full_read_at is 'when a claim last looked for these places; the next one does after twenty times as long as it took';
comment on column pgreact.queue_state.full_read is 'how long that took';
comment on column pgreact.queue_state.delayed_floor is 'no delayed job was due before, as of full_read_at';

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
comment on table pgreact.lane_state is 'state of a lane between claims: virtual time, tokens, recent rate';
comment on column pgreact.lane_state.virtual_time is 'start-time fair queueing: jobs claimed divided by weight; the lane with the lowest value is served next';
comment on column pgreact.lane_state.tokens is 'tokens of the rate limit at tokens_at; null: the whole burst';
comment on column pgreact.lane_state.claim_number is 'number of the last claim that took a job of the lane';
comment on column pgreact.lane_state.recent is 'jobs claimed recently, at recent_at: decays with a time constant of 60 s';

-- Only a session whose setting pgreact.traceparent is set calls this at an insert: see the column's default.
create function pgreact.trace_context(given jsonb default null) returns jsonb
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    parent text := given ->> 'traceparent';
    state text := given ->> 'tracestate';
    baggage text := given ->> 'baggage';
    known constant text := '^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$';
begin
    if parent is null or parent !~ known then
        parent := current_setting('pgreact.traceparent', true);
        state := current_setting('pgreact.tracestate', true);
        baggage := null;
    end if;
    if parent is null or parent !~ known then
        return null;
    end if;
    -- printable ASCII, no longer than the standards ask of those who pass it on
    return jsonb_strip_nulls(jsonb_build_object(
        'traceparent', parent,
        'tracestate', case when octet_length(state) between 1 and 512 and state !~ '[^ -~]' collate "C" then state end,
        'baggage', case when octet_length(baggage) between 1 and 8192 and baggage !~ '[^ -~]' collate "C" then baggage end
    ));
end
$$;
comment on function pgreact.trace_context(jsonb)
    is 'the valid part of a trace context, else that of the settings pgreact.traceparent and pgreact.tracestate; null: none';
revoke all on function pgreact.trace_context(jsonb) from public;

-- Checks of pgreact.queue. PostgreSQL parses a CHECK of a table at each statement that inserts, which takes a quarter of an
-- enqueue; a domain's only once in a session.
create domain pgreact.waiting_state as text check (value in ('ready', 'delayed', 'blocked'));
create domain pgreact.unique_while as text check (value in ('queued', 'in_progress'));
create domain pgreact.positive as integer check (value >= 1);
create domain pgreact.not_negative as integer check (value >= 0);
create domain pgreact.pause as interval check (value >= interval '0');
comment on domain pgreact.waiting_state is 'state of a waiting job';
comment on domain pgreact.unique_while is 'how long a unique_key is taken';
comment on domain pgreact.positive is 'at least 1';
comment on domain pgreact.not_negative is 'at least 0';
comment on domain pgreact.pause is 'an interval that is not negative';

-- A busy queue is mostly dead tuples: vacuum early, without cost delay.
create table pgreact.queue (
    id bigint generated by default as identity primary key,
    state pgreact.waiting_state not null default 'ready',
    lane text,
    task text not null,
    args jsonb not null default '[]',
    kwargs jsonb not null default '{}',
    priority integer not null default 0,
    run_at timestamptz not null default pgreact.clock_now(),
    key text,
    unique_key text,
    unique_while pgreact.unique_while not null default 'queued',
    attempt integer not null default 0,
    max_attempts pgreact.positive not null default 1,
    lost integer not null default 0,
    max_lost pgreact.not_negative,
    backoff pgreact.pause not null default '5 s',
    expires timestamptz,
    options jsonb not null default '{}',
    enqueued_at timestamptz not null default pgreact.clock_now(),
    task_id uuid not null default gen_random_uuid(),
    resume jsonb,
    retrying boolean not null default false,
    error text,
    size integer,
    ready_at timestamptz,
    alone boolean,
    trace jsonb default case when current_setting('pgreact.traceparent', true) <> '' then pgreact.trace_context() end
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
        autovacuum_analyze_scale_factor = 0.2);
comment on table pgreact.queue is 'waiting jobs; added by pgreact.enqueue, removed by pgreact.cancel';
comment on column pgreact.queue.state
    is 'ready: may be claimed; delayed: not before run_at; blocked: an earlier job has the same key';
comment on column pgreact.queue.lane
    is 'null: the lane of the task''s Celery queue, which the leader has yet to look up; until then no claim takes the job';
comment on column pgreact.queue.priority is 'higher comes first within a lane';
comment on column pgreact.queue.key is 'jobs of one key run one at a time, ordered by id';
comment on column pgreact.queue.unique_key is 'at most one waiting job has this key';
comment on column pgreact.queue.attempt is 'attempts so far, including lost ones';
comment on column pgreact.queue.max_attempts is 'attempts that may fail at most; lost ones do not count';
comment on column pgreact.queue.lost is 'attempts that ended as their worker died';
comment on column pgreact.queue.max_lost is 'lost attempts after which the job is repeated at most; null: as the lane has it';
comment on column pgreact.queue.resume
    is 'the message of a retry that the task asked for: the same attempt goes on with it at run_at';
comment on column pgreact.queue.retrying is 'whether resume is set, for roles that may not read it';
comment on column pgreact.queue.backoff is 'pause after the first failed attempt; doubles with each further one, 1 h at most';
comment on column pgreact.queue.expires is 'a job that has not started by then is dead';
comment on column pgreact.queue.options is 'options of apply_async, for the message';
comment on column pgreact.queue.task_id is 'Celery''s id of the task, the same for every attempt';
comment on column pgreact.queue.error is 'of the last attempt';
comment on column pgreact.queue.size
    is 'bytes of args, kwargs and options as text; a claim takes 8 MiB at most. null: the claim measures them';

comment on column pgreact.queue.ready_at
    is 'when the job ahead of its key ended, or its last attempt, or a worker handed it back; null: nothing of that held it up';

comment on column pgreact.queue.alone
    is 'true: the job travels in a message of its own: one that it shared was lost or refused, or a worker cannot run it in one; null: it need not';

comment on column pgreact.queue.trace
    is 'trace context of the job, as W3C headers: traceparent, tracestate, baggage; null: its trace begins at the publish';

create index queue_ready on pgreact.queue (lane, priority desc, run_at, id) where state = 'ready';
-- jobs that became ready later than their place in queue_ready says: see pgreact.queue_heads
create index queue_freed on pgreact.queue (ready_at) where state = 'ready' and ready_at is not null;
create index queue_delayed on pgreact.queue (run_at) where state = 'delayed';
-- for counts by lane
create index queue_waiting on pgreact.queue (lane, state, retrying) where state <> 'ready';
create index queue_key on pgreact.queue (key, id) where key is not null;
create unique index queue_unique on pgreact.queue (unique_key) where unique_key is not null;

-- A transaction that cannot lock the first waiting job of a key writes the key here; see unblock_next.
create table pgreact.contested_key (
    id bigint generated always as identity primary key,
    key text not null,
    claim_number bigint not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
comment on table pgreact.contested_key is 'keys whose first waiting job claims check, until another transaction is certain to unblock it';
comment on column pgreact.contested_key.claim_number
    is 'that of the job ahead, or of the claim; the highest bigint: a waiting job was removed';

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
    size integer not null default 0,
    ready_at timestamptz,
    committed_at timestamptz,
    bundle bigint,
    trace jsonb
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0);
comment on table pgreact.in_progress is 'claimed jobs that are not settled, each under a lease';
comment on column pgreact.in_progress.claim_number is 'number of the claim that took the job';
comment on column pgreact.in_progress.claim_id is 'identifies the attempt in its messages, workers'' calls and leases';
comment on column pgreact.in_progress.ready_at is 'since when nothing but a place in its lane held the job up, as far as its row shows';
comment on column pgreact.in_progress.committed_at
    is 'commit of the transaction that made the job ready; null unless PostgreSQL runs with track_commit_timestamp = on';
comment on column pgreact.in_progress.published_at
    is 'when the leader took its message to publish it, and since a worker started it, when the leader made it; null: it is to be published';
comment on column pgreact.in_progress.bundle
    is 'jobs with the same number share a message, and take one place of their lane: a worker runs one after the other; null: a message of its own';
comment on column pgreact.in_progress.publishes is 'messages of this attempt that no worker started within their lease';
comment on column pgreact.in_progress.retries is 'the number of Celery''s own retries in the last message started; -1: none started';

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
    died_at timestamptz not null default pgreact.clock_now(),
    outcome text not null,
    error text
);
comment on table pgreact.dead is 'jobs that ended without success and do not run again, unless pgreact.retry queues them';
comment on column pgreact.dead.outcome is 'failed, lost, expired, revoked, rejected, invalid, or unstarted (no worker took its messages)';
create index dead_died on pgreact.dead (died_at);

-- Old rows are dropped by partition, without vacuum.
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
    run_at timestamptz,
    ready_at timestamptz,
    committed_at timestamptz,
    claimed_at timestamptz,
    published_at timestamptz,
    started_at timestamptz,
    settled_at timestamptz not null,
    primary key (id, settled_at)
) partition by range (settled_at);
comment on table pgreact.history is 'settled attempts, kept for queue_setting.retention';
comment on column pgreact.history.ready_at is 'see in_progress.ready_at; null: no claim took the job';

-- Not a default partition: attaching another partition would lock that against its readers.
create table pgreact.history_rest (like pgreact.history including all);
comment on table pgreact.history_rest is 'attempts of days without a partition, until maintain_history moves them into one';
create index history_rest_settled on pgreact.history_rest (settled_at);

-- Jobs of plain Celery tasks have no row here: Celery's result backend keeps their results.
create table pgreact.result (
    job bigint not null,
    task_id uuid not null,
    args jsonb not null,
    kwargs jsonb not null,
    attempt integer not null,
    succeeded boolean not null,
    value jsonb,
    errors jsonb not null,
    workers text[] not null,
    enqueued_at timestamptz not null,
    started_at timestamptz not null,
    last_started_at timestamptz not null,
    finished_at timestamptz not null,
    expires_at timestamptz not null,
    primary key (job, task_id)
);
comment on table pgreact.result is 'what tasks of django.tasks returned, or how their attempts failed; written by pgreact.store_result';
comment on column pgreact.result.attempt is 'number of the last attempt that ended here';
comment on column pgreact.result.succeeded is 'whether that attempt succeeded; if not, the job may have another attempt';
comment on column pgreact.result.errors is 'of failed attempts, in order: an array of objects with class and traceback';
comment on column pgreact.result.workers is 'the workers of the attempts that ended here, in order';
comment on column pgreact.result.started_at is 'of the first of these attempts';
comment on column pgreact.result.expires_at is 'when the row may be deleted; later results delete it';
create index result_expires on pgreact.result (expires_at);

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
comment on table pgreact.outbox is 'which change of which table enqueues a job; written by attach and detach';
comment on column pgreact.outbox.changed is 'an update enqueues if it changes one of these columns; null: every update does';
comment on column pgreact.outbox.attached_as
    is 'the table''s name when it was attached: status reports it if another table has that name now';
comment on column pgreact.outbox.always
    is 'the trigger is enabled ALWAYS: rows that logical replication applies enqueue, too';
comment on column pgreact.outbox.definition
    is 'the trigger as PostgreSQL showed it when it was attached; a column renamed since then shows as a difference';

-- Routes of users begin at id 1.
insert into pgreact.route (id, name, task, "window", gate_poll, gate_close_rate, ready)
overriding system value
values (0, 'pgreact.queue', 'pgreact.dispatch_next_available', '5 ms', '20 ms', 200,
    'select exists (select from pgreact.queue) or exists (select from pgreact.in_progress)'
    ' or exists (select from pgreact.queue_setting where num_nonnulls(retention, dead_retention) > 0)');

create domain pgreact.lane_name as text;
comment on domain pgreact.lane_name is 'distinguishes attach for a task from attach for a route';

create trigger unwatch after delete on pgreact.outbox
    for each row execute function pgreact.unwatch();

-- Otherwise attempts would go to history_rest until the next maintenance.
create function pgreact.retention_changed() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform pgreact.extend_history();
    return null;
end
$$;
comment on function pgreact.retention_changed() is 'creates the partitions when the history is switched on';
revoke all on function pgreact.retention_changed() from public;

create trigger retention after insert or update of retention on pgreact.queue_setting
    for each row when (new.retention is not null) execute function pgreact.retention_changed();
