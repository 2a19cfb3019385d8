-- Grants a role the rights of one kind. Kinds: daemon, monitor, operator, signaller, worker, scheduler, enqueuer.
create or replace function pgreact.grant_role(role regrole, kind text) returns void
    language plpgsql
    strict
    set search_path = pg_catalog, pg_temp
as $$
declare
    relation regclass;
    columns text;
begin
    case kind
        when 'daemon' then
            execute format('grant usage on schema pgreact to %s', role);
            execute format('grant select on pgreact.migration, pgreact.installation, pgreact.route, pgreact.watched, pgreact.lane, '
                'pgreact.lane_state, pgreact.task, pgreact.queue_setting, pgreact.queue, pgreact.in_progress, pgreact.dead, pgreact.outbox, '
                'pgreact.schedule, pgreact.canary, pgreact.tally_total, pgreact.event_log to %s', role);
            execute format('grant select, insert, update on pgreact.flight to %s', role);
            execute format('grant select, insert, update, delete on pgreact.trouble to %s', role);
            execute format('grant execute on function pgreact.acquire_lock(text, interval), pgreact.lock_class(text), '
                'pgreact.poll_gates(integer[]), pgreact.set_gates(integer[], bigint), pgreact.claim(integer), pgreact.database_id(), '
                'pgreact.unpublished(uuid[], boolean), pgreact.route_tasks(jsonb), pgreact.unanswered(), pgreact.settle(bigint, uuid, text, text), pgreact.maintain_history(), '
                'pgreact.trigger_arguments(text[]), pgreact.outbox_trigger(text, text), pgreact.outbox_key(regclass), '
                'pgreact.trigger_parts(regclass, text), pgreact.trigger_definition(regclass, text), '
                'pgreact.trigger_state(regclass, text, text, boolean, text), pgreact.replaced(regclass, text), '
                'pgreact.json_types(), pgreact.readable(text), pgreact.clock_now(), pgreact.fire(jsonb), '
                'pgreact.maintain_schedule_history(text, text), pgreact.send_canary(), '
                'pgreact.roll_up(integer), pgreact.lane_depths(integer), '
                'pgreact.buckets(), pgreact.add_counts(bigint[], bigint[]), pgreact.sum_counts(bigint[]), '
                'pgreact.log_event(text, text, jsonb, text) to %s', role);
        when 'monitor', 'operator' then
            execute format('grant usage on schema pgreact to %s', role);
            -- all columns of jobs but their arguments and options
            for relation, columns in
                select a.attrelid::regclass, string_agg(quote_ident(a.attname), ', ')
                from pg_attribute a
                where a.attrelid in ('pgreact.queue'::regclass, 'pgreact.in_progress'::regclass, 'pgreact.dead'::regclass)
                    and a.attnum > 0
                    and not a.attisdropped
                    and (kind = 'operator' or a.attname not in ('args', 'kwargs', 'options', 'resume', 'trace'))
                group by a.attrelid
            loop
                execute format('grant select (%s) on %s to %s', columns, relation, role);
            end loop;
            execute format('grant select on pgreact.migration, pgreact.installation, pgreact.route, pgreact.watched, '
                'pgreact.flight, pgreact.trouble, pgreact.task, pgreact.lane, pgreact.lane_state, pgreact.queue_setting, pgreact.queue_state, '
                'pgreact.contested_key, pgreact.outbox, pgreact.history, pgreact.schedule, pgreact.schedule_history, pgreact.tally, pgreact.tally_hour, '
                'pgreact.canary, pgreact.tally_total, pgreact.event_log to %s', role);
            execute format('grant execute on function pgreact.lock_class(text), pgreact.trigger_arguments(text[]), '
                'pgreact.outbox_trigger(text, text), pgreact.outbox_key(regclass), pgreact.trigger_parts(regclass, text), '
                'pgreact.trigger_definition(regclass, text), pgreact.trigger_state(regclass, text, text, boolean, text), '
                'pgreact.replaced(regclass, text), pgreact.json_types(), pgreact.readable(text), pgreact.clock_now(), '
                'pgreact.unanswered(), pgreact.load(text), pgreact.lane_depths(integer), pgreact.why_job(bigint), pgreact.database_id(), '
                'pgreact.buckets(), pgreact.add_counts(bigint[], bigint[]), '
                'pgreact.sum_counts(bigint[]) to %s', role);
            execute format('grant execute on function pgreact.error_pattern(text) to %s', role);
            if kind = 'operator' then
                execute format('grant update (paused, max_in_progress, max_unstarted, max_lost, weight, rate, burst, bundle) on pgreact.lane '
                    'to %s', role);
                execute format('grant execute on function pgreact.cancel(bigint), pgreact.retry(bigint), pgreact.discard(bigint), pgreact.signal(text), '
                    'pgreact.log_event(text, text, jsonb, text) to %s', role);
                perform pgreact.grant_role(role, 'scheduler');
            end if;
        when 'signaller' then
            execute format('grant usage on schema pgreact to %s', role);
            execute format('grant execute on function pgreact.signal(text), pgreact.mute() to %s', role);
        when 'worker' then
            execute format('grant usage on schema pgreact to %s', role);
            -- for the decorator alone: a message has the id of its route
            execute format('grant select (id, name) on pgreact.route to %s', role);
            execute format('grant execute on function pgreact.start(bigint, uuid, integer, text, float8), '
                'pgreact.settle_and_start(bigint[], uuid[], float8[], float8[], bigint[], uuid[], text, float8), '
                'pgreact.hand_back(bigint[], uuid[], text, boolean), pgreact.abandon_bundle(bigint[], uuid[], text, text, text), '
                'pgreact.renew(bigint[], uuid[]), pgreact.snooze(bigint, uuid, interval, boolean), '
                'pgreact.settle(bigint, uuid, text, text), pgreact.store_result(bigint, uuid, jsonb, jsonb, interval), '
                'pgreact.postpone(bigint, uuid, integer, interval, text, text), pgreact.database_id(), '
                'pgreact.abandon(bigint, uuid, integer, text, text, text) to %s', role);
        when 'scheduler' then
            execute format('grant usage on schema pgreact to %s', role);
            -- the columns that users write; the others are pgreact's
            execute format('grant insert (%1$s), update (%1$s) on pgreact.schedule to %2$s',
                'name, task, args, kwargs, every, cron, cron_and, at, solar, rrule, timezone, anchor, enabled, start_at, end_at, '
                'max_runs, jitter, misfire, grace, catch_up, overlap, delivery, lane, priority, max_attempts, options, expires, '
                'retention, description, next_run_at', role);
            execute format('grant select, delete on pgreact.schedule to %s', role);
            execute format('grant select on pgreact.schedule_history, pgreact.lane to %s', role);
            execute format('grant execute on function pgreact.clock_now(), pgreact.upsert_schedules(jsonb, text) to %s', role);
        when 'enqueuer' then
            execute format('grant usage on schema pgreact to %s', role);
            execute format('grant execute on function pgreact.job_result(bigint, uuid) to %s', role);
            execute format('grant execute on function pgreact.enqueue(text, jsonb, jsonb, text, integer, timestamptz, text, '
                'text, integer, interval, timestamptz, jsonb, text, uuid, integer, jsonb), pgreact.enqueue_many(jsonb), pgreact.task_id(bigint), '
                'pgreact.cancel(bigint), pgreact.retry(bigint), pgreact.readable(text), pgreact.why_job(bigint), pgreact.clock_now() to %s', role);
            execute format('grant select on pgreact.queue, pgreact.in_progress, pgreact.dead, pgreact.history, pgreact.lane '
                'to %s', role);
        else
            raise exception 'no kind of role "%"', kind
                using errcode = 'invalid_parameter_value',
                    hint = 'Kinds are daemon (runs "pgreact listen"), worker (runs jobs, or uses @pgreact.single_flight), '
                        'enqueuer (calls pgreact.enqueue, reads jobs), scheduler (edits pgreact.schedule), '
                        'monitor (runs "pgreact status", reads all but the arguments of jobs), '
                        'operator (reads all, pauses lanes, retries and cancels jobs, edits schedules) '
                        'and signaller (calls pgreact.signal and pgreact.mute). '
                        'A role that only writes the watched tables needs no kind.';
    end case;
end
$$;
comment on function pgreact.grant_role(regrole, text) is 'grants a role the rights of a daemon, worker, enqueuer, scheduler, monitor, operator or signaller, and no others';
revoke all on function pgreact.grant_role(regrole, text) from public;
