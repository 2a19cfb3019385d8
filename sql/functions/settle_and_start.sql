-- A worker calls this between the jobs of a bundle: in one transaction it settles attempts that ended well, and takes the next ones.
-- One transaction saves a round trip, and leaves less time in which a crash lets an attempt that has ended run again.
--
--   done, done_claims   attempts that ended well. ago_s: seconds since the body began; run_s: its length. The worker's clock
--                       measures only these distances
--   next, next_claims   attempts to take, never started before
--   publish_s           seconds from the claim until the leader made the message
--   started             those of next that may run; the others are gone or expired
--   held                one of next is started elsewhere, or locked by another transaction: none is started. The message may run
--                       twice, and jobs of a bundle, which take one place of their lane, run one after the other
--   ignored             those of done that had ended before: their lease expired, say
--
-- If another transaction holds a row of done, it fails with lock_not_available (55P03), and nothing has changed.
create or replace function pgreact.settle_and_start(
    done bigint[],
    done_claims uuid[],
    ago_s double precision[],
    run_s double precision[],
    next bigint[],
    next_claims uuid[],
    worker text,
    publish_s double precision default 0,
    out lease_s double precision,
    out started bigint[],
    out held boolean,
    out ignored bigint[]
)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '500ms'
    set enable_seqscan = off
    set enable_hashjoin = off
    set enable_mergejoin = off
    set jit = off
as $$
declare
    moment timestamptz := pgreact.clock_now();
    today timestamptz := date_trunc('day', moment, 'UTC');
    setting pgreact.queue_setting;
    partition boolean;
    settled bigint[];
    keys text[];
    numbers bigint[];
    task text;
    average double precision;
    longest double precision;
    note record;
begin
    select s.* into setting from pgreact.queue_setting s;
    lease_s := extract(epoch from setting.lease);
    started := '{}';
    held := false;
    ignored := '{}';
    if cardinality(done) > 0 then
        partition := to_regclass('pgreact.history_' || to_char(moment at time zone 'UTC', 'YYYYMMDD')) is not null;
        with gone as (
            delete from pgreact.in_progress p
            using unnest(done, done_claims, settle_and_start.ago_s, settle_and_start.run_s) d (id, claim_id, ago_s, run_s)
            where p.id = d.id and p.claim_id = d.claim_id
            returning p.*, d.ago_s, d.run_s
        ),
        ended as materialized (
            select g.*, b.began_at, greatest(today, b.began_at + make_interval(secs => g.run_s)) as settled_at,
                greatest(least(g.published_at, b.began_at), g.claimed_at) as sent_at
            from gone g
            cross join lateral (select greatest(g.claimed_at, moment - make_interval(secs => g.ago_s)) as began_at) b
        ),
        -- as pgreact.record_history writes one attempt
        counted as (
            insert into pgreact.settled (settled_at, lane, task, outcome, transaction_s, claim_s, publish_s, broker_s, run_s)
            select e.settled_at, e.lane, e.task, 'done',
                case when e.committed_at is not null then greatest(0, extract(epoch from e.committed_at - e.ready_at)) end,
                greatest(0, extract(epoch from e.claimed_at - greatest(e.committed_at, e.ready_at))),
                extract(epoch from e.sent_at - e.claimed_at),
                greatest(0, extract(epoch from e.began_at - e.sent_at)),
                e.run_s
            from ended e
        ),
        filed as (
            insert into pgreact.history (id, lane, task, key, attempt, outcome, task_id, worker, enqueued_at, run_at, ready_at,
                committed_at, claimed_at, published_at, started_at, settled_at)
            select e.id, e.lane, e.task, e.key, e.attempt, 'done', e.task_id, e.worker, e.enqueued_at, e.run_at, e.ready_at,
                e.committed_at, e.claimed_at, e.published_at, e.began_at, e.settled_at
            from ended e
            where setting.retention is not null and partition
        ),
        rest as (
            insert into pgreact.history_rest (id, lane, task, key, attempt, outcome, task_id, worker, enqueued_at, run_at, ready_at,
                committed_at, claimed_at, published_at, started_at, settled_at)
            select e.id, e.lane, e.task, e.key, e.attempt, 'done', e.task_id, e.worker, e.enqueued_at, e.run_at, e.ready_at,
                e.committed_at, e.claimed_at, e.published_at, e.began_at, e.settled_at
            from ended e
            where setting.retention is not null and not partition
        )
        select array_agg(e.id), array_agg(e.key) filter (where e.key is not null),
            array_agg(e.claim_number) filter (where e.key is not null),
            min(e.task), avg(e.run_s), max(e.run_s)  -- a bundle is of one task
        into settled, keys, numbers, task, average, longest
        from ended e;
        perform pgreact.measure_run(task, greatest(average, case when longest > 0.05 then longest end));
        if coalesce(cardinality(settled), 0) < cardinality(done) then
            ignored := array(select d from unnest(done) d where d <> all (coalesce(settled, '{}')));
        end if;
        for note in select k.* from unnest(coalesce(keys, '{}'), numbers) k (key, claim_number) loop
            perform pgreact.unblock_next(note.key, note.claim_number);
        end loop;
    end if;
    if cardinality(next) > 0 then
        started := array(
            select p.id
            from unnest(next, next_claims) n (id, claim_id)
            join pgreact.in_progress p on p.id = n.id and p.claim_id = n.claim_id
            where p.started_at is null and p.retries < 0 and (p.expires is null or p.expires > moment)
            for update of p skip locked
        );
        if cardinality(started) < cardinality(next) then
            perform pgreact.settle(p.id, p.claim_id, 'expired', format('not started before it expired at %s', p.expires))
            from unnest(next, next_claims) n (id, claim_id)
            join pgreact.in_progress p on p.id = n.id and p.claim_id = n.claim_id
            where p.started_at is null and p.expires <= moment;
            held := exists (
                select
                from unnest(next, next_claims) n (id, claim_id)
                join pgreact.in_progress p on p.id = n.id and p.claim_id = n.claim_id
                where p.id <> all (started)
            );
        end if;
        if held then
            started := '{}';
        else
            update pgreact.in_progress p
            set started_at = moment,
                published_at = least(moment, p.published_at + make_interval(secs => publish_s)),
                retries = 0,
                worker = settle_and_start.worker,
                lease_until = moment + setting.lease
            where p.id = any (started);
        end if;
    end if;
end
$$;
comment on function pgreact.settle_and_start(
    bigint[], uuid[], double precision[], double precision[], bigint[], uuid[], text, double precision)
    is 'settles attempts of a bundle that ended well, and takes the next ones for a worker';
revoke all on function pgreact.settle_and_start(
    bigint[], uuid[], double precision[], double precision[], bigint[], uuid[], text, double precision) from public;
