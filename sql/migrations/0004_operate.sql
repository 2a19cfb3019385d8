-- What operators look at: numbers of settled attempts by minute, and a log of events of the cluster.

-- Each settlement adds a row; the leader counts the rows and deletes them in one transaction, so each attempt is counted once.
-- Its scans read what tally_state.counted does not see, so neither an old
-- snapshot nor a long transaction, which keep deleted rows, slows them.
create table pgreact.settled (
    xid xid8 not null default pg_current_xact_id(),
    settled_at timestamptz not null,
    lane text,
    task text not null,
    outcome text not null,
    transaction_s real,
    claim_s real,
    publish_s real,
    broker_s real,
    run_s real
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
alter table pgreact.settled replica identity full;  -- for publications of all tables: no key identifies a row
comment on table pgreact.settled is 'settled attempts that pgreact.roll_up has yet to count';
comment on column pgreact.settled.transaction_s is 'seconds from ready to the commit that made it so; null: not known, and part of claim_s';
comment on column pgreact.settled.claim_s is 'seconds from there to the claim';
comment on column pgreact.settled.publish_s is 'seconds from the claim until the leader had made the message';
comment on column pgreact.settled.broker_s is 'seconds from there until a worker started the attempt';
comment on column pgreact.settled.run_s is 'seconds from the start to the settlement';
create index settled_xid on pgreact.settled (xid);

create table pgreact.tally_state (
    one boolean primary key default true check (one),
    counted pg_snapshot not null default '1:1:',
    folded_until timestamptz not null default '-infinity'
) with (fillfactor = 50);
comment on table pgreact.tally_state is 'one row, which roll_up locks';
comment on column pgreact.tally_state.counted is 'all rows of pgreact.settled that this snapshot sees are counted';
comment on column pgreact.tally_state.folded_until is 'minutes before this are in tally_hour';
insert into pgreact.tally_state default values;

-- The columns of tally, tally_hour and tally_total.
create table pgreact.tally (
    minute timestamptz not null,
    lane text not null,
    task text not null,
    outcome text not null,
    jobs bigint not null,
    waits bigint[] not null,
    wait_s double precision not null,
    runs bigint[] not null,
    run_s double precision not null,
    transactions bigint not null,
    transaction_s double precision not null,
    claim_s double precision not null,
    publish_s double precision not null,
    broker_s double precision not null,
    primary key (minute, lane, task, outcome)
);
comment on table pgreact.tally is 'settled attempts by minute, for two days; written by the leader';
comment on column pgreact.tally.lane is 'empty: the job was not in a lane yet';
comment on column pgreact.tally.jobs is 'attempts settled';
comment on column pgreact.tally.waits
    is 'attempts that a worker started, by their wait from ready to start: counts by bucket of pgreact.buckets(), and above the last';
comment on column pgreact.tally.wait_s is 'the sum of these waits, in seconds';
comment on column pgreact.tally.runs is 'the same attempts by the seconds from start to settlement';
comment on column pgreact.tally.transactions is 'attempts of which transaction_s is known';
comment on column pgreact.tally.transaction_s is 'sums, in seconds, of the parts of the wait; see pgreact.settled';

create table pgreact.tally_hour (like pgreact.tally including all);
comment on table pgreact.tally_hour is 'settled attempts by hour, for 90 days: column minute is the hour''s first';

create table pgreact.tally_total (like pgreact.tally, primary key (lane, task, outcome)) with (fillfactor = 50);
comment on table pgreact.tally_total is 'settled attempts since the installation, without tasks that settled nothing for 90 days';
comment on column pgreact.tally_total.minute is 'the last one that roll_up added to the row';

create table pgreact.event_log (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    event text not null check (event ~ '^[a-z_]+[.][a-z_]+$'),
    subject text not null,
    actor text not null,
    details jsonb not null default '{}'
);
comment on table pgreact.event_log is 'elections, versions, gates, applies, and what users changed: the last 10,000 rows, 90 days at most';
comment on column pgreact.event_log.event is 'noun.past_participle, like leader.elected or lane.paused';
comment on column pgreact.event_log.subject is 'the name of what it happened to';
comment on column pgreact.event_log.actor is 'the user: setting pgreact.actor, else the database role; or daemon HOST PID';
create index event_log_at on pgreact.event_log (at);

-- Pages and terminals listen on channel pgreact_live; the daemons do not.
create trigger logged after insert on pgreact.event_log
    for each statement execute function pgreact.notify_change('pgreact_live', 'event');

create function pgreact.lane_changed() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    changes jsonb;
begin
    if tg_op = 'INSERT' then
        if new.origin <> 'queue' then
            perform pgreact.log_change('lane.created', new.name, jsonb_strip_nulls(to_jsonb(new) - 'name'));
        end if;
    elsif tg_op = 'DELETE' then
        perform pgreact.log_change('lane.deleted', old.name);
    else
        select jsonb_object_agg(n.key, jsonb_build_array(o.value, n.value)) into changes
        from jsonb_each(to_jsonb(new)) n
        join jsonb_each(to_jsonb(old)) o on o.key = n.key and o.value <> n.value;
        if changes is not null then
            perform pgreact.log_change(
                case when not changes ? 'paused' then 'lane.changed' when new.paused then 'lane.paused' else 'lane.resumed' end,
                new.name, changes);
        end if;
    end if;
    return null;
end
$$;
comment on function pgreact.lane_changed() is 'records a change of a lane in pgreact.event_log';
revoke all on function pgreact.lane_changed() from public;
create trigger logged after insert or update or delete on pgreact.lane
    for each row execute function pgreact.lane_changed();

create function pgreact.schedule_switched() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform pgreact.log_change(case when new.enabled then 'schedule.enabled' else 'schedule.disabled' end, new.name);
    return null;
end
$$;
comment on function pgreact.schedule_switched() is 'records in pgreact.event_log that a schedule was enabled or disabled';
revoke all on function pgreact.schedule_switched() from public;
create trigger logged after update of enabled on pgreact.schedule
    for each row when (old.enabled <> new.enabled) execute function pgreact.schedule_switched();

-- A job that goes the whole way: commit, notification, claim, publish, start, settlement.
create table pgreact.canary (
    one boolean primary key default true check (one),
    job bigint,
    sent_at timestamptz,
    returned_at timestamptz,
    checked_at timestamptz,
    seconds double precision,
    failures bigint not null default 0,
    every interval,
    queue text
) with (fillfactor = 50);
comment on table pgreact.canary is 'one row: the last canary; see queue_setting.canary';
comment on column pgreact.canary.returned_at is 'when its job was done; null: it has not come back';
comment on column pgreact.canary.checked_at is 'when the leader last sent one, or found that the last one had not come back';
comment on column pgreact.canary.seconds is 'from sent_at to returned_at, of the last one that came back';
comment on column pgreact.canary.failures is 'how often the leader found that one had not come back';
comment on column pgreact.canary.every is 'queue_setting.canary that the leader follows';
comment on column pgreact.canary.queue is 'queue_setting.canary_queue that the leader follows';
insert into pgreact.canary default values;

create trigger canary after update of canary, canary_queue on pgreact.queue_setting
    for each statement execute function pgreact.notify_change('pgreact', 'canary');
