-- A broker delivers in order, so a job that was claimed later shows whether somebody takes messages: passed over, where one was
-- started or has gone; busy, where an earlier one still runs; else nobody is seen to consume the queue.
create or replace function pgreact.unanswered()
    returns table (lane text, queue text, jobs bigint, sent integer, since timestamptz, verdict text)
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
select u.lane, u.queue, u.jobs, u.sent, u.since,
    case
        when exists (select from pgreact.in_progress o where o.lane = u.lane and o.claim_number > u.claim_number and o.started_at is not null)
            or u.claim_number < s.claim_number
                and not exists (select from pgreact.in_progress o where o.lane = u.lane and o.claim_number = s.claim_number)
            then 'passed over'
        when exists (select from pgreact.in_progress o where o.lane = u.lane and o.started_at is not null) then 'busy'
        else 'unconsumed'
    end
from (
    select p.lane, coalesce(p.options ->> 'queue', t.queue) as queue, count(*) as jobs,
        -- the message that is in the broker, and those before it
        max(p.publishes) + 1 as sent, min(p.claimed_at) as since, min(p.claim_number) as claim_number
    from pgreact.in_progress p
    left join pgreact.task t on t.name = p.task
    where p.started_at is null
        and (p.published_at is not null or p.publishes > 0)
        and p.claimed_at < clock_timestamp() - (select s.lease from pgreact.queue_setting s)
    group by 1, 2
) u
left join pgreact.lane_state s on s.lane = u.lane
order by u.lane, u.queue
$$;
comment on function pgreact.unanswered()
    is 'jobs that were published and no worker started for longer than a lease, by lane and Celery queue';
revoke all on function pgreact.unanswered() from public;
