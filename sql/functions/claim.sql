-- Moves jobs that may run from pgreact.queue to pgreact.in_progress, and returns what the leader publishes.
--
-- In this order:
--   1. lock the row of queue_state: one claim runs at a time, and counts after that, so limits hold at every instant; where nothing
--      or one plain job is to be done, pgreact.claim_lone does that, and the claim ends; the rest is in pgreact.claim_many
--   2. delayed jobs that are due become ready
--   3. look for tasks of jobs without a lane; fill the token buckets of lanes with a rate
--   then up to ten passes, until no place is free or no job is ready; each counts the jobs in progress (census) first:
--   4. in the first pass: check the keys of contested_key
--   5. in the first pass: ended leases, and unstarted jobs that expired
--        not started, expired                            settled as expired
--        not started, sent too often and for too long    settled as unstarted
--        not started, of a bundle                        back to the queue, and alone next time
--        not started otherwise                           published again, under a lease twice as long
--        started, the row was locked at the last claim   the worker gets 10 s more to renew the lease
--        started otherwise                               settled as lost
--   6. choose jobs, lane by lane: start-time fair queueing by the lanes' virtual times, within limits, rates and priorities.
--      pgreact.next_jobs foresees this by the same functions: lane_rooms, choose_jobs, first_bytes, out_of_turn, fit_messages
--   7. lock them; replace those that other transactions hold by later jobs of their lanes; stop at 8 MiB of arguments
--   8. of each key take the first job only, and none while one is in progress: the others become blocked
--   9. expired jobs become dead; the others are divided into messages (fit_messages), move to in_progress, and their lanes' virtual
--      times and tokens move on
--   after the passes:
--  10. write queue_state; find lanes that are full though jobs are ready, and messages that no worker starts
--  11. write the bundles; collect the attempts of earlier claims whose messages are to be published again
--  12. compute when the next claim is due
--
-- It marks all that it returns as published, which spares a statement for each job, on a row that a worker is about to take. The leader
-- reverts that where it does not publish, or the next leader does: see pgreact.unpublished.
--
-- The answer: jobs (to be published), bundles (jobs that are to be published in one message), both with their place in the order of
-- publishing if there are bundles, claimed (the number of all), more
-- (claim again at once), next_s (seconds until the next claim is due; null: none is), waiting (unstarted jobs: the next claim may be delayed, see claim_delay.py), unrouted (tasks that are not
-- in pgreact.task), full_lanes, unanswered (rows of pgreact.unanswered; null: it did not look).
--
-- It is muted: the leader's own changes must not signal its own route.
-- It waits for no transaction, not even for another claim. It skips rows that others have locked, reads on for others to take their
-- place, and is due again within a second, since a rollback signals nothing.
-- Its plans are made in a long session, mostly while the queue is empty, so they must not depend on the queue's size.
-- They are generic: to plan its statements for each claim would take longer than to execute them.
-- Dead tuples stay in the indexes until vacuum, and while any session has an old snapshot. So it reads in_progress from oldest_claim on.
-- It reads the queue from its first index entries on while that is fast; else from where the last claims found the first jobs
-- (queue_state.floors), and in full after twenty times as long as a full read takes: see pgreact.queue_heads.
create or replace function pgreact.claim(batch integer) returns jsonb
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
    set plan_cache_mode = force_generic_plan
    set lock_timeout = '100ms'
as $$
declare
    muted text := coalesce(current_setting('pgreact.muted', true), '');
    reference_time timestamptz;  -- when the claim began
    found_queue record;  -- its state, its settings, and what else decides the way
    answer jsonb;
begin
    -- 1
    -- One statement, since to begin another costs more than to read what is usually not there. It reads the others as they were just before
    -- the lock, which is soon enough for these: what changes them signals.
    select
        s as state,
        c as setting,
        (
            select q.run_at
            from pgreact.queue q
            where q.state = 'delayed' and q.run_at > case when s.floors is null then '-infinity' else s.delayed_floor end
            order by q.run_at
            limit 1
        ) as next_delayed,
        exists (select from pgreact.queue q where q.state = 'ready' and q.lane is null) as without_lane,
        exists (select from pgreact.lane l where l.rate is not null) as has_rate,
        s.floors is null and s.held = '{}' as plain
    into found_queue
    from pgreact.queue_state s
    left join pgreact.queue_setting c on true  -- without its row a job cannot be moved, which is an error
    for update of s skip locked;
    if not found then
        return jsonb_build_object('jobs', '[]'::jsonb, 'claimed', 0, 'more', false, 'waiting', 0, 'next_s', 0.1);
    end if;
    -- not pgreact.mute(), which is planned at each call; nor a SET clause, which needs a superuser
    perform set_config('pgreact.muted', 'on', true);
    reference_time := pgreact.clock_now();
    if batch > 1 and found_queue.plain and not found_queue.without_lane and not found_queue.has_rate
        and coalesce(found_queue.next_delayed > reference_time, true) and getdatabaseencoding() = 'UTF8'
    then
        answer := pgreact.claim_lone(found_queue.state, found_queue.setting, reference_time, found_queue.next_delayed);
    end if;
    if answer is null then
        answer := pgreact.claim_many(batch, found_queue.state, found_queue.setting, reference_time, found_queue.next_delayed,
            found_queue.without_lane, found_queue.has_rate);
    end if;
    perform set_config('pgreact.muted', muted, true);
    return answer;
end
$$;
comment on function pgreact.claim(integer)
    is 'moves jobs that may run to in_progress; returns all that the leader is to publish, and when the next claim is due';
revoke all on function pgreact.claim(integer) from public;
