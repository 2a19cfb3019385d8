-- Why a job does not run: what holds it up now, by the claim's own rules; it only reads, and its cost does not grow with the queue.
-- The answer:
--   at         when it was read
--   job        id, state, task, lane, key, attempt
--   verdict    waits, next (the next claim takes it), claimed, published, running, dead, settled or unknown
--   runs_next  whether the next claim takes it: see next_jobs
--   causes     in the order in which they are to go; each with a code, its facts, and known_at: when it is known to change
-- Codes of causes:
--   of the leader       see leader_causes
--   of the job          expired, delayed, due (the next claim makes it ready), key (behind the job that is head of its key),
--                       unblocking (the job ahead of its key is gone: the next claim makes it ready), unrouted (no lane yet)
--   of its lane         paused, lane_full, unstarted (max_unstarted), rate
--   of the whole queue  queue_full, bytes (unpublished arguments)
--   of its turn         order (jobs of its lane come first), fair_share (other lanes take the next places), next
--   in progress         claimed (not published yet), published, running, lease_ended
--   gone                dead, settled, unknown
create or replace function pgreact.why_job(job bigint) returns jsonb
    language plpgsql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
    set plan_cache_mode = force_generic_plan
as $$
declare
    most constant integer := 10001;  -- jobs that it counts at most
    at timestamptz := pgreact.clock_now();
    waiting pgreact.queue;
    running pgreact.in_progress;
    gone pgreact.dead;
    past pgreact.history;
    setting pgreact.queue_setting;
    use record;
    lane record;
    paused record;
    head bigint;
    ahead bigint;
    others bigint;
    chosen bigint[];
    facts jsonb;
    causes jsonb := '[]';
    held boolean;
    runs_next boolean := false;
    verdict text;
begin
    select s.* into setting from pgreact.queue_setting s;
    select q.* into waiting from pgreact.queue q where q.id = job;
    if not found then
        select p.* into running from pgreact.in_progress p where p.id = job;
        if not found then
            select d.* into gone from pgreact.dead d where d.id = job;
            if not found then
                select h.* into past
                from (
                    (select h.* from pgreact.history h where h.id = job order by h.settled_at desc limit 1)
                    union all
                    (select h.* from pgreact.history_rest h where h.id = job order by h.settled_at desc limit 1)
                ) h
                order by h.settled_at desc
                limit 1;
            end if;
        end if;
    end if;

    if past.id is not null then
        verdict := 'settled';
        facts := jsonb_build_object('task', past.task, 'lane', past.lane, 'key', past.key, 'attempt', past.attempt);
        causes := jsonb_build_array(jsonb_build_object('code', 'settled', 'outcome', past.outcome, 'since', past.settled_at,
            'started_at', past.started_at, 'worker', pgreact.readable(past.worker), 'error', pgreact.readable(past.error)));
    elsif gone.id is not null then
        verdict := 'dead';
        facts := jsonb_build_object('task', gone.task, 'lane', gone.lane, 'key', gone.key, 'attempt', gone.attempt);
        causes := jsonb_build_array(jsonb_build_object('code', 'dead', 'outcome', gone.outcome, 'since', gone.died_at,
            'error', pgreact.readable(gone.error)));
    elsif running.id is not null then
        facts := jsonb_build_object('task', coalesce(running.resume ->> 'task', running.task), 'lane', running.lane,
            'key', running.key, 'attempt', running.attempt);
        if running.started_at is not null then
            verdict := 'running';
            causes := jsonb_build_array(jsonb_build_object('code', 'running', 'worker', pgreact.readable(running.worker),
                'since', running.started_at, 'lease_until', running.lease_until));
            if running.lease_until <= at then
                causes := causes || jsonb_build_object('code', 'lease_ended', 'since', running.lease_until)
                    || pgreact.leader_causes();
            end if;
        elsif running.published_at is null then
            verdict := 'claimed';
            causes := pgreact.leader_causes() || jsonb_build_object('code', 'claimed', 'since', running.claimed_at,
                'sent', running.publishes);
        else
            verdict := 'published';
            causes := jsonb_build_array(jsonb_build_object('code', 'published', 'since', running.published_at,
                'sent', running.publishes + 1, 'expires', running.expires,
                'known_at', least(running.lease_until, running.expires),
                'queue', pgreact.readable(coalesce(running.options ->> 'queue',
                    (select t.queue from pgreact.task t where t.name = running.task))),
                -- after a lease: what the other jobs of the lane tell of its workers
                'unanswered', (select u.verdict from pgreact.unanswered() u
                    where u.lane = running.lane
                        and u.queue is not distinct from coalesce(running.options ->> 'queue',
                            (select t.queue from pgreact.task t where t.name = running.task))
                        and running.claimed_at < at - setting.lease)));
            if running.lease_until <= at then
                causes := causes || pgreact.leader_causes();
            end if;
        end if;
    elsif waiting.id is null then
        verdict := 'unknown';
        facts := '{}';
        causes := jsonb_build_array(jsonb_build_object('code', 'unknown', 'retention_s', extract(epoch from setting.retention),
            'existed', job <= coalesce(pg_sequence_last_value(pg_get_serial_sequence('pgreact.queue', 'id')::regclass), 0)));
    else
        verdict := 'waits';
        facts := jsonb_build_object('task', coalesce(waiting.resume ->> 'task', waiting.task), 'lane', waiting.lane,
            'key', waiting.key, 'attempt', waiting.attempt);
        causes := pgreact.leader_causes();
        if waiting.state = 'delayed' and waiting.run_at > at then
            causes := causes || jsonb_build_object('code', 'delayed', 'known_at', waiting.run_at, 'retry', waiting.retrying
                or waiting.attempt > 0, 'attempt', waiting.attempt, 'error', pgreact.readable(waiting.error));
        elsif waiting.state = 'delayed' then
            causes := causes || jsonb_build_object('code', 'due', 'since', waiting.run_at);
        end if;
        if waiting.expires <= at or waiting.state = 'delayed' and waiting.expires <= waiting.run_at then
            causes := causes || jsonb_build_object('code', 'expired', 'since', waiting.expires);
        end if;

        if waiting.key is not null then
            select p.id into head from pgreact.in_progress p where p.key = waiting.key order by p.id limit 1;
            if head is null then
                select q.id into head from pgreact.queue q where q.key = waiting.key and q.id < waiting.id order by q.id limit 1;
            end if;
            if head is not null then
                select count(*) into ahead
                from (
                    select
                    from pgreact.queue q
                    where q.key = waiting.key and q.id < waiting.id and q.id <> head
                    order by q.id
                    limit most
                ) q;
                causes := causes || jsonb_build_object('code', 'key', 'key', pgreact.readable(waiting.key), 'between', ahead,
                    'head', (
                        select jsonb_build_object('job', w.answer -> 'job', 'verdict', w.answer ->> 'verdict', 'causes', (
                            -- the leader's causes are those of this job, too
                            select coalesce(jsonb_agg(c.cause order by c.place), '[]')
                            from jsonb_array_elements(w.answer -> 'causes') with ordinality c (cause, place)
                            where c.cause ->> 'code' not in ('no_leader', 'dispatch_failing', 'leader_failing', 'trigger')
                        ))
                        from (select pgreact.why_job(head) as answer) w
                    ));
            elsif waiting.state = 'blocked' then
                causes := causes || jsonb_build_object('code', 'unblocking', 'key', pgreact.readable(waiting.key));
            end if;
        end if;

        select u.* into use from pgreact.places_used() u;
        if waiting.lane is null then
            causes := causes || jsonb_build_object('code', 'unrouted', 'task', pgreact.readable(waiting.task));
        else
            select r.* into lane
            from pgreact.lane_rooms(array[waiting.lane], at, null, use.lanes, use.used, use.unstarted) r;
            if lane.paused then
                select e.at, e.actor into paused
                from pgreact.event_log e
                where e.event = 'lane.paused' and e.subject = waiting.lane
                order by e.at desc
                limit 1;
                causes := causes || jsonb_build_object('code', 'paused', 'since', paused.at,
                    'actor', pgreact.readable(paused.actor));
            end if;
            if lane.in_progress >= lane.max_in_progress then
                causes := causes || jsonb_build_object('code', 'lane_full', 'in_progress', lane.in_progress,
                    'max', lane.max_in_progress, 'longest', (
                        select jsonb_agg(jsonb_build_object('job', p.id, 'worker', pgreact.readable(p.worker), 'since', p.started_at)
                            order by p.started_at)
                        from (
                            select p.id, p.worker, p.started_at
                            from pgreact.in_progress p
                            where p.claim_number >= (select s.oldest_claim from pgreact.queue_state s)
                                and p.lane = waiting.lane and p.started_at is not null
                            order by p.started_at
                            limit 3
                        ) p
                    ));
            end if;
            if lane.not_started >= lane.max_unstarted then
                causes := causes || jsonb_build_object('code', 'unstarted', 'unstarted', lane.not_started, 'max', lane.max_unstarted,
                    'unanswered', (
                        select u.verdict from pgreact.unanswered() u where u.lane = waiting.lane order by u.jobs desc limit 1
                    ));
            end if;
            if lane.tokens < 1 then
                causes := causes || jsonb_build_object('code', 'rate', 'rate', lane.rate,
                    'known_at', at + make_interval(secs => (1 - lane.tokens) / lane.rate));
            end if;
        end if;
        if use.jobs >= setting.max_in_progress then
            causes := causes || jsonb_build_object('code', 'queue_full', 'in_progress', use.jobs, 'max', setting.max_in_progress);
        end if;
        if use.bytes >= pgreact.claim_bytes() then
            causes := causes || jsonb_build_object('code', 'bytes', 'bytes', use.bytes, 'max', pgreact.claim_bytes());
        end if;

        if waiting.state = 'ready' and waiting.lane is not null then
            chosen := pgreact.next_jobs();
            runs_next := job = any (chosen);
            held := causes @? '$[*] ? (@.code != "no_leader" && @.code != "dispatch_failing" && @.code != "leader_failing"
                && @.code != "trigger")';
            select count(*) into ahead
            from (
                select q.id, q.priority, q.run_at
                from pgreact.queue q
                where q.state = 'ready' and q.lane = waiting.lane
                order by q.priority desc, q.run_at, q.id
                limit most
            ) q
            where (-q.priority::bigint, q.run_at, q.id) < (-waiting.priority::bigint, waiting.run_at, waiting.id);
            if runs_next then
                if causes = '[]' then
                    verdict := 'next';
                end if;
                causes := causes || jsonb_build_object('code', 'next', 'ahead', ahead,
                    'since', greatest(waiting.run_at, waiting.enqueued_at, waiting.ready_at));
            else
                if ahead > 0 then
                    causes := causes || jsonb_build_object('code', 'order', 'jobs', ahead, 'room', lane.room);
                end if;
                select count(distinct q.lane) into others from pgreact.queue q where q.id = any (chosen) and q.lane <> waiting.lane;
                if not held and ahead < lane.room and others > 0 then
                    causes := causes
                        || jsonb_build_object('code', 'fair_share', 'jobs', cardinality(chosen), 'others', others);
                end if;
            end if;
        end if;
    end if;

    return jsonb_build_object(
        'at', at,
        'job', jsonb_build_object('id', job, 'state',
                coalesce(waiting.state, case when running.id is not null then 'in_progress' end, verdict)) || (
            select coalesce(jsonb_object_agg(f.key, case
                when jsonb_typeof(f.value) = 'string' then to_jsonb(pgreact.readable(f.value #>> '{}'))
                else f.value
            end), '{}')
            from jsonb_each(facts) f
        ),
        'verdict', verdict,
        'runs_next', runs_next,
        'causes', causes);
end
$$;
comment on function pgreact.why_job(bigint) is 'why a job does not run: its state, and what holds it up, by the rules of the claim';
revoke all on function pgreact.why_job(bigint) from public;
