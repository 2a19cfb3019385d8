-- A broker delivers in order, so later jobs of the lane show whether a worker takes messages. Verdicts:
--   passed over   a job claimed later has started or has gone: a worker took these messages and could not run them
--   busy          only earlier jobs run
--   unconsumed    no job of the lane runs: no worker seems to consume the queue
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
        -- with the message that is in the broker now
        max(p.publishes) + 1 as sent, min(p.claimed_at) as since, min(p.claim_number) as claim_number
    from pgreact.in_progress p
    left join pgreact.task t on t.name = p.task
    where p.started_at is null
        and (p.published_at is not null or p.publishes > 0)
        and p.claimed_at < pgreact.clock_now() - (select s.lease from pgreact.queue_setting s)
    group by 1, 2
) u
left join pgreact.lane_state s on s.lane = u.lane
order by u.lane, u.queue
$$;
comment on function pgreact.unanswered()
    is 'jobs that were published and that no worker has started for longer than a lease, by lane and Celery queue';
revoke all on function pgreact.unanswered() from public;
