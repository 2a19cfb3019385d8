-- The wake-ups: routes, the tables they watch, and the last flight of each.

create schema pgreact;
comment on schema pgreact is 'pgreact: a committed change becomes one Celery call';
revoke all on schema pgreact from public;

create table pgreact.migration (
    name text primary key,
    checksum text not null,
    applied_at timestamptz not null default now()
);
comment on table pgreact.migration is 'what "pgreact apply" has run here: numbered migrations once, functions at each change';

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
        check (single_flight in ('publish')),
    options jsonb not null default '{}'
        check (jsonb_typeof(options) = 'object'
            and not options ?| array['task_id', 'countdown', 'expires', 'eta', 'producer', 'publisher',
                                     'connection', 'retry', 'retry_policy', 'add_to_parent']),
    ready text
        check (ready <> ''),
    origin text not null default 'sql'
        check (origin in ('sql', 'config'))
);
comment on table pgreact.route is 'a named tie: watched tables to one Celery task; a committed change is in force at once';
comment on column pgreact.route.id is 'payload of the notifications, object of the advisory locks';
comment on column pgreact.route."window" is 'shortest time between two dispatches';
comment on column pgreact.route.countdown is 'the message asks the worker to start this much later';
comment on column pgreact.route.expires is 'a message not started by then is dropped by the worker; null: never';
comment on column pgreact.route.sweep is 'how often to look for work that nobody signalled; 0: only at election';
comment on column pgreact.route.options is 'options of apply_async, args and kwargs too';
comment on column pgreact.route.ready is 'a query: true if a sweep should dispatch; null: it always does';
comment on column pgreact.route.origin is 'config: kept by "pgreact apply"; sql: left alone by it';

create table pgreact.watched (
    route_id integer not null references pgreact.route on delete cascade,
    relation regclass not null,
    event text not null check (event in ('insert', 'update', 'delete', 'truncate')),
    condition text check (condition <> ''),
    origin text not null default 'sql' check (origin in ('sql', 'config')),
    primary key (route_id, relation, event),
    check (condition is null or event <> 'truncate')  -- a truncate has no rows
);
comment on table pgreact.watched is 'which change of which table signals a route; kept by attach and detach';

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
    updated_at timestamptz not null default now()
) with (fillfactor = 50);
comment on table pgreact.flight is 'for people: the last dispatch of each route, as its leader told it; nothing depends on it';

create function pgreact.route_changed() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_notify('pgreact', 'routes');
    return null;
end
$$;
comment on function pgreact.route_changed() is 'tells the running daemons that a route changed';
revoke all on function pgreact.route_changed() from public;

create trigger changed after insert or update or delete or truncate on pgreact.route
    for each statement execute function pgreact.route_changed();

-- Without this a deleted route would leave its triggers behind, signalling nobody.
create function pgreact.unwatch() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    name text := format('pgreact_%s_%s', old.route_id, old.event);
    relation regclass;
begin
    for relation in
        select t.tgrelid
        from pg_trigger t
        where t.tgname = name
            and t.tgparentid = 0
            and not t.tgisinternal
            and (t.tgrelid = old.relation
                -- truncate triggers stand on each partition, and stay there when it is detached
                or old.event = 'truncate')
    loop
        execute format('drop trigger %I on %s', name, relation);
    end loop;
    return old;
end
$$;
comment on function pgreact.unwatch() is 'drops the triggers of a watched table that is no longer watched';
revoke all on function pgreact.unwatch() from public;

create trigger unwatch after delete on pgreact.watched
    for each row execute function pgreact.unwatch();
