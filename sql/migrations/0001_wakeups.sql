-- The wake-ups: routes, the tables attached to them, their gates and their last flights.

create schema pgreact;
comment on schema pgreact is 'pgreact: a committed change becomes one Celery call';
revoke all on schema pgreact from public;

-- Rows get their times by it, so it is here as well as in sql/functions.
create function pgreact.clock_now() returns timestamptz
    language sql
    volatile
    parallel safe
return pg_catalog.clock_timestamp();
revoke all on function pgreact.clock_now() from public;

create table pgreact.migration (
    name text primary key,
    checksum text not null,
    applied_at timestamptz not null default now()
);
comment on table pgreact.migration is 'the files that "pgreact apply" has run here: numbered migrations once, functions at each change';

create table pgreact.installation (
    one boolean primary key default true check (one),
    application text not null check (application <> '')
);
comment on table pgreact.installation
    is 'at most one row: the application that owns this database; "apply" and "listen" of another are refused';

create table pgreact.route (
    id integer generated always as identity primary key,
    name text not null unique
        check (name ~ '^[A-Za-z_][A-Za-z0-9_.-]{0,62}$'),
    task text not null
        check (task <> ''),
    "window" interval not null default '100 ms'
        check ("window" between interval '0' and interval '1 hour'),
    countdown interval not null default '0'
        check (countdown >= interval '0'),
    expires interval default '15 s'
        check (expires > interval '0'),
    sweep interval not null default '60 s'
        check (sweep = interval '0' or sweep >= interval '1 s'),
    single_flight text not null default 'publish'
        check (single_flight in ('publish', 'run')),
    gate text not null default 'auto'
        check (gate in ('auto', 'open', 'closed')),
    gate_poll interval not null default '40 ms'
        check (gate_poll between interval '5 ms' and interval '10 s'),
    gate_close_rate integer not null default 100
        check (gate_close_rate > 0),
    gate_open_after interval not null default '1 s'
        check (gate_open_after between interval '100 ms' and interval '1 h'),
    options jsonb not null default '{}'
        check (jsonb_typeof(options) = 'object'
            and not options ?| array['task_id', 'countdown', 'expires', 'eta', 'producer', 'publisher',
                                     'connection', 'retry', 'retry_policy', 'add_to_parent']),
    ready text
        check (ready <> ''),
    origin text not null default 'sql'
        check (origin in ('sql', 'config')),
    -- a message that the broker lost is noticed by its expiry alone
    check (single_flight = 'publish' or expires is not null)
);
comment on table pgreact.route is 'a named tie of watched tables to one Celery task; a committed change is in force at once';
comment on column pgreact.route.id is 'payload of the notifications, object of the advisory locks';
comment on column pgreact.route."window" is 'shortest time between two dispatches';
comment on column pgreact.route.countdown is 'the worker starts the task this long after the publish';
comment on column pgreact.route.expires is 'the worker drops a message that it has not started by then; null: never';
comment on column pgreact.route.sweep is 'how often the leader looks for work without a signal; 0: only at election';
comment on column pgreact.route.single_flight
    is 'publish: a flight ends when the broker has the message; run: when its task has run';
comment on column pgreact.route.gate
    is 'auto: writers notify unless notifications come fast; open: always; closed: never, and the leader polls';
comment on column pgreact.route.gate_poll is 'time between two polls while the gate is closed';
comment on column pgreact.route.gate_close_rate is 'notifications a second above which the leader closes the gate';
comment on column pgreact.route.gate_open_after is 'time without activity after which the leader opens the gate';
comment on column pgreact.route.options is 'options of apply_async, and args and kwargs';
comment on column pgreact.route.ready is 'a query that returns true if a sweep should dispatch; null: it always does';
comment on column pgreact.route.origin is 'config: managed by "pgreact apply"; sql: made by SQL, and left alone by it';

create table pgreact.watched (
    route_id integer not null references pgreact.route on delete cascade,
    relation regclass not null,
    event text not null check (event in ('insert', 'update', 'delete', 'truncate')),
    condition text check (condition <> ''),
    changed text[] check (changed is null or cardinality(changed) > 0 and event = 'update'),
    always boolean not null default false,
    origin text not null default 'sql' check (origin in ('sql', 'config')),
    definition text,
    attached_as text,
    primary key (route_id, relation, event),
    check (condition is null or event <> 'truncate')  -- a truncate has no rows
);
comment on table pgreact.watched is 'which changes of which tables signal a route; written by attach and detach';
comment on column pgreact.watched.changed is 'an update signals if it changes one of these columns; null: any update does';
comment on column pgreact.watched.attached_as
    is 'the name that the table had when it was attached: pgreact status reports another table of that name';
comment on column pgreact.watched.always
    is 'its trigger is enabled ALWAYS: rows that logical replication applies signal, too';
comment on column pgreact.watched.definition
    is 'the trigger as PostgreSQL showed it when the table was attached; it differs once a column is renamed';

-- Written by the leader about once a second while something happens: fillfactor leaves room for HOT updates.
create table pgreact.flight (
    route_id integer primary key references pgreact.route on delete cascade,
    dispatches bigint not null default 0,
    task_id text,
    published_at timestamptz,
    signals integer,
    waited_ms double precision,
    dirty_since timestamptz,
    in_flight_since timestamptz,
    error text,
    gate text,
    gate_since timestamptz,
    unstarted_since timestamptz,
    updated_at timestamptz not null default now()
) with (fillfactor = 50);
comment on table pgreact.flight is 'for people: the last dispatch of each route, written by the leader; nothing depends on it';
comment on column pgreact.flight.unstarted_since
    is 'single_flight = run: no worker has reported a start of the task since then';

create table pgreact.trouble (
    source text not null check (source in ('listen', 'beat')),
    subject text not null,
    error text not null,
    since timestamptz not null,
    primary key (source, subject)
);
comment on table pgreact.trouble is 'for people: what fails at the moment in the leader, or in Beat, and is tried again';
comment on column pgreact.trouble.subject is 'a statement, like "claim", or a row, like "schedule nightly"';

create function pgreact.notify_change() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- A full queue would fail the very change that closes gates. Those that listen read again long before that.
    if pg_notification_queue_usage() < 0.5 then
        perform pg_notify(tg_argv[0], tg_argv[1]);
    end if;
    return null;
end
$$;
comment on function pgreact.notify_change() is 'sends a notification about a change; arguments: channel, payload';
revoke all on function pgreact.notify_change() from public;

create trigger changed after insert or update or delete or truncate on pgreact.route
    for each statement execute function pgreact.notify_change('pgreact', 'routes');

-- The trigger refuses such options, since the leader reads those of all routes at once.
create function pgreact.route_options() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if new.options::text ~ '([0-9]{200}){20}' or new.options @? '$.**{200}' then
        raise exception 'route %: options have a number of 4,000 digits, or more than 200 levels', new.name
            using errcode = 'program_limit_exceeded';
    end if;
    perform pgreact.check_options('route ' || new.name, new.options - '{args,kwargs}'::text[]);
    return new;
end
$$;
comment on function pgreact.route_options() is 'refuses options that no worker could read';
revoke all on function pgreact.route_options() from public;

create trigger options before insert or update of options on pgreact.route
    for each row when (new.options <> '{}') execute function pgreact.route_options();

-- Without it a deleted row of watched or outbox, or a deleted route, would leave its triggers behind.
create function pgreact.unwatch() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_table_name = 'outbox' then
        perform pgreact.drop_triggers(pgreact.outbox_trigger(old.task, old.event));
    else
        perform pgreact.drop_triggers(format('pgreact_%s_%s', old.route_id, old.event));
    end if;
    return old;
end
$$;
comment on function pgreact.unwatch() is 'drops the triggers of a table that is no longer attached';
revoke all on function pgreact.unwatch() from public;

create trigger unwatch after delete on pgreact.watched
    for each row execute function pgreact.unwatch();

-- The gate of a route is a sequence: its value tells writers whether to notify, and its growth tells the leader of writers that
-- did not. CACHE 1: a session that takes numbers in advance would write unnoticed.
create function pgreact.make_gate(route_id integer) returns void
    language plpgsql
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    name text := 'gate_' || route_id;
begin
    -- a truncate of pgreact.route, or a restore, leaves a sequence behind
    if to_regclass('pgreact.' || name) is null then
        execute format('create sequence pgreact.%I cache 1', name);
    end if;
    -- writers take numbers from it in the WHEN of their triggers, but have no right on the schema to name it
    execute format('grant usage on sequence pgreact.%I to public', name);
    -- the functions that set it run as pgreact's owner; another role may insert the route
    execute format('alter sequence pgreact.%I owner to %s', name,
        (select c.relowner::regrole from pg_class c where c.oid = 'pgreact.route'::regclass));
end
$$;
comment on function pgreact.make_gate(integer) is 'creates the sequence of a route unless it exists';
revoke all on function pgreact.make_gate(integer) from public;

create function pgreact.route_sequence() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'INSERT' then
        perform pgreact.make_gate(new.id);
        return null;
    elsif tg_when = 'BEFORE' then
        -- the cascade would come too late: the triggers that it drops depend on the sequence
        delete from pgreact.watched where route_id = old.id;
        return old;
    end if;
    execute format('drop sequence if exists pgreact.%I', 'gate_' || old.id);
    return null;
end
$$;
comment on function pgreact.route_sequence() is 'creates and drops the sequence of a route';
revoke all on function pgreact.route_sequence() from public;

create trigger sequence after insert on pgreact.route
    for each row execute function pgreact.route_sequence();
create trigger sequence_first before delete on pgreact.route
    for each row execute function pgreact.route_sequence();
-- at the commit: dropping locks the sequence against the leader's polls
create constraint trigger sequence_last after delete on pgreact.route
    deferrable initially deferred
    for each row execute function pgreact.route_sequence();

-- The gate is an argument of the writers' triggers. Replacing a trigger waits for every transaction that used the old one.
create function pgreact.route_gate() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform pgreact.attach(w.relation, new.name, array[w.event], w.condition, w.always, w.changed)
    from pgreact.watched w
    join pg_class c on c.oid = w.relation
    where w.route_id = new.id;
    return null;
end
$$;
comment on function pgreact.route_gate() is 'replaces the triggers of a route when its gate changes';
revoke all on function pgreact.route_gate() from public;

create trigger gate after update of gate on pgreact.route
    for each row when (old.gate is distinct from new.gate) execute function pgreact.route_gate();
