-- The steps of pgreact.claim from the second one on. That calls it with its lock held, under its SET clauses, and muted. It is a function of
-- its own since PL/pgSQL sets up all variables of a function at each call, which the only ready job need not wait for.
--
-- reference_time: when the claim began. next_delayed: when the first delayed job after the floor is due. without_lane: whether ready jobs have
-- no lane yet. has_rate: whether a lane has a rate.
create or replace function pgreact.claim_many(
    batch integer, state pgreact.queue_state, setting pgreact.queue_setting, reference_time timestamptz, next_delayed timestamptz,
    without_lane boolean, has_rate boolean) returns jsonb
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    max_scan constant integer := 10000;  -- locked rows that it reads past at most
    claim_time timestamptz;  -- of the jobs of a pass
    places integer;
    chosen bigint[];
    free bigint[];  -- rows that no other transaction holds
    blocked bigint[];
    keys text[];
    exhausted text[] := '{}';  -- lanes whose further ready jobs are locked
    rated text[] := '{}';  -- lanes with a rate whose tokens this claim has locked
    watermark bigint;  -- the next oldest_contested
    unrenewed bigint[];  -- jobs with an ended lease whose rows are locked
    unrouted text[];  -- tasks whose Celery queue the leader is to look up
    keyed boolean;  -- whether chosen jobs may have keys
    stale_jobs boolean;  -- whether chosen jobs may have expired
    ended boolean := false;  -- whether leases have ended
    unanswered jsonb;
    full_lanes jsonb;
    touched integer := 0;
    reach integer := batch;
    claimed integer := 0;
    next_expiry timestamptz;  -- of the claimed jobs
    next_token timestamptz;  -- when a lane with ready jobs has a token again
    allowed constant bigint := pgreact.claim_bytes();
    bytes bigint;
    claimed_bytes bigint := 0;
    counted integer;
    unstarted bigint := 0;
    in_order bigint[];  -- the claimed jobs, if some share messages
    again bigint[];  -- attempts of earlier claims that are to be published again
    left_over boolean;  -- whether some of them do not fit into this answer
    more boolean := false;
    skipped boolean := false;  -- whether anything was locked by another transaction
    utf8 boolean := getdatabaseencoding() = 'UTF8';
    tracked boolean := current_setting('track_commit_timestamp')::boolean;
    jobs jsonb;
    due timestamptz;
    census record;
    stale pgreact.in_progress;
    short record;
    note record;
    served record;
    served_lanes text[];
    served_jobs integer[];
    served_places integer[];
    accounted integer;
    reached float8;  -- the virtual time of the last lane served
    bundling boolean;  -- some jobs may be
    messages integer[];  -- which the chosen jobs share
    full_now text[];  -- lanes that have no room for all chosen jobs
    crowded boolean;  -- whether more jobs might have been chosen than places were left
    bundled integer := 0;  -- the highest number of a bundle of this claim
    pause constant integer := 20;  -- between full reads, by their length: they take 5 % of the time at most
    margin constant interval := '1 s';  -- transactions may take as long to commit
    most_entries constant bigint := 10000;  -- of the index that a read of the first jobs returns, unless most are dead
    entries bigint;  -- those that this transaction had read before
    deep boolean;  -- whether this claim's read returned more
    floored boolean;  -- whether this claim reads from the floors on
    heads pgreact.queue_head[];  -- where it reads the lanes from; null: from the first index entries on
    moved boolean := false;  -- whether it changed them
    look_at timestamptz;  -- when it began to look for them
    bundles jsonb;
begin
    floored := state.floors is not null
        and clock_timestamp() between state.full_read_at and state.full_read_at + pause * state.full_read;
    if state.floors is not null and not floored then
        next_delayed := (select q.run_at from pgreact.queue q where q.state = 'delayed' order by q.run_at limit 1);
    end if;
    bundling := exists (select from pgreact.task t where pgreact.is_short(t));

    -- 2
    while next_delayed <= reference_time loop
        select array_agg(d.id) into chosen
        from (
            select q.id
            from pgreact.queue q
            where q.state = 'delayed' and q.run_at <= reference_time
                and q.run_at > case when floored then state.delayed_floor else '-infinity' end
            order by q.run_at
            limit reach
        ) d;
        exit when chosen is null;
        update pgreact.queue q
        set state = 'ready',
            ready_at = case when floored then reference_time else q.ready_at end  -- see pgreact.queue_heads
        where q.id in (
            select d.id
            from pgreact.queue d
            where d.id = any (chosen) and d.run_at + interval '0' <= reference_time  -- another transaction may just have postponed it
            order by d.run_at
            limit batch
            for update skip locked
        );
        get diagnostics touched = row_count;
        exit when touched = least(batch, cardinality(chosen));
        skipped := true;
        exit when reach = max_scan;
        reach := max_scan;
    end loop;
    more := touched = batch;
    if not floored then
        state.delayed_floor := case when more or skipped then '-infinity' else reference_time end;
    end if;

    -- 3
    if not utf8 then
        -- the leader cannot be asked about these names
        update pgreact.queue q
        set lane = 'default'
        where q.state = 'ready' and q.lane is null and pgreact.readable(q.task) <> q.task;
    end if;
    if without_lane or next_delayed <= reference_time then
        select array_agg(distinct u.task) into unrouted
        from (select q.task from pgreact.queue q where q.state = 'ready' and q.lane is null limit max_scan) u;
    end if;

    if has_rate then
        with free as materialized (
            select s.lane, s.tokens, l.burst, pgreact.lane_tokens(s.tokens, s.tokens_at, l.rate, l.burst, reference_time) as filled
            from pgreact.lane l
            join pgreact.lane_state s on s.lane = l.name
            where l.rate is not null
            for update of s skip locked
        ),
        filled as (
            update pgreact.lane_state s
            set tokens = f.filled, tokens_at = reference_time
            from free f
            where f.lane = s.lane and f.tokens <> f.burst
        )
        select coalesce(array_agg(f.lane), '{}') into rated from free f;
    end if;

    for pass in 1..10 loop
        -- The only scan of in_progress: its cost grows with the number of places.
        select
            coalesce(sum(l.jobs), 0)::integer as jobs,
            array_agg(l.lane) as lanes,
            array_agg(l.jobs) as used,
            array_agg(l.jobs) as places,
            array_agg(l.unstarted) as unstarted,
            array_agg(l.lane) filter (where l.waits) as waiting,
            min(l.oldest_claim) as oldest_claim,
            least(min(l.lease_until), min(l.expires)) as lease_until,
            coalesce(bool_or(l.ended), false) as ended,
            coalesce(bool_or(l.unanswered), false) as unanswered,
            coalesce(bool_or(l.unpublished), false) as unpublished,
            coalesce(bool_or(l.bundled), false) as bundled,
            coalesce(sum(l.bytes), 0)::bigint as bytes
        into census
        from (
            select
                p.lane,
                count(*) as jobs,
                count(*) filter (where p.started_at is null) as unstarted,
                min(p.claim_number) as oldest_claim,
                min(p.lease_until) filter (where p.lease_until > reference_time) as lease_until,
                min(p.expires) filter (where p.started_at is null and p.expires > reference_time) as expires,
                bool_or(p.lease_until <= reference_time or p.started_at is null and p.expires <= reference_time) as ended,
                bool_or(p.publishes >= 2 and p.started_at is null) as unanswered,
                bool_or(p.started_at is null and p.published_at < reference_time - interval '10 ms') as waits,
                bool_or(p.published_at is null) as unpublished,
                bool_or(p.bundle is not null) as bundled,
                sum(p.size) filter (where p.published_at is null) as bytes
            from pgreact.in_progress p
            where p.claim_number >= state.oldest_claim
            group by p.lane
        ) l;

        if census.bundled then
            select array_agg(coalesce(b.places, u.jobs) order by u.number),
                array_agg(u.lane) filter (where coalesce(b.waits, u.lane = any (census.waiting)))
            into census.places, census.waiting
            from unnest(census.lanes, census.used) with ordinality u (lane, jobs, number)
            left join pgreact.bundled_places(state.oldest_claim, reference_time) b on b.lane = u.lane;
        end if;
        counted := census.jobs - claimed;
        census.bytes := census.bytes + claimed_bytes;
        served_lanes := '{}';
        served_jobs := '{}';
        served_places := '{}';

        if pass = 1 then
            -- 4. Keys whose first waiting job may have nothing to unblock it. Read after the census: a job that was gone before the
            -- census has its key written before this.
            watermark := coalesce(census.oldest_claim, state.claim_number + 1);
            if exists (select from pgreact.contested_key k where k.claim_number >= state.oldest_contested) then
                for note in
                    select k.key, array_agg(k.id) as ids, min(k.claim_number) as claim_number
                    from pgreact.contested_key k
                    where k.claim_number >= state.oldest_contested
                    group by k.key
                    order by min(k.id)
                    limit max_scan
                loop
                    perform from pgreact.in_progress p where p.key = note.key for update skip locked;
                    if found  -- the settlement of that job comes after this claim, and unblocks the next one
                        or not exists (select from pgreact.in_progress p where p.key = note.key)
                            and pgreact.unblock_next(note.key)
                    then
                        delete from pgreact.contested_key k where k.id = any (note.ids);
                    else
                        watermark := least(watermark, note.claim_number);
                        skipped := true;
                    end if;
                end loop;
            end if;
        end if;

        -- 5
        if pass = 1 and census.ended then
            touched := 0;
            ended := true;
            for stale in
                select p.*
                from pgreact.in_progress p
                where p.claim_number >= state.oldest_claim
                    and (p.lease_until <= reference_time or p.started_at is null and p.expires <= reference_time)
                limit batch
                for update skip locked
            loop
                touched := touched + 1;
                if stale.started_at is null and (
                    stale.expires <= reference_time
                    or stale.publishes >= 6 and stale.claimed_at < reference_time - setting.start_within)
                then
                    begin
                        if stale.expires <= reference_time then
                            perform pgreact.settle(stale.id, stale.claim_id, 'expired',
                                format('not started before it expired at %s', stale.expires));
                        else
                            perform pgreact.settle(stale.id, stale.claim_id, 'unstarted', format(
                                'no worker started it, though its message was sent %s times since %s', stale.publishes + 1,
                                stale.claimed_at));
                        end if;
                    exception
                        when lock_not_available then exit;  -- the history is locked: wait for it once only
                    end;
                elsif stale.started_at is null and stale.bundle is not null then
                    perform pgreact.return_unrun(stale, true);
                elsif stale.started_at is null then
                    -- The message was lost, or no worker is there. It is sent again, twice as late each time. Only messages
                    -- that the broker took are counted.
                    stale.publishes := stale.publishes + (stale.published_at is not null)::integer;
                    update pgreact.in_progress p
                    set published_at = null,
                        publishes = stale.publishes,
                        lease_until = reference_time + setting.lease * 2 ^ least(stale.publishes, 6)
                    where p.id = stale.id;
                elsif stale.id = any (state.held) then
                    -- Its worker could not renew the lease while another transaction held the row.
                    update pgreact.in_progress p
                    set lease_until = reference_time + least(setting.lease, interval '10 s')
                    where p.id = stale.id;
                else
                    begin
                        perform pgreact.settle(stale.id, stale.claim_id, 'lost', format(
                            'worker %s did not renew the lease of its job',
                            coalesce(stale.worker, '(unknown)')));
                    exception
                        when lock_not_available then exit;  -- the history is locked: wait for it once only
                    end;
                end if;
            end loop;
            more := more or touched = batch;
            unrenewed := array(
                select p.id
                from pgreact.in_progress p
                where p.claim_number >= state.oldest_claim and p.lease_until <= reference_time and touched < batch
            );
            continue;
        end if;

        -- 6
        if heads is not null then
            heads := pgreact.queue_heads(heads, state.full_read_at - margin);
        elsif state.floors is not null then
            look_at := clock_timestamp();
            entries := pg_stat_get_xact_tuples_returned('pgreact.queue_ready'::regclass);
            heads := case
                when floored then pgreact.queue_heads(state.floors, state.full_read_at - margin)
                else pgreact.queue_heads('{}')
            end;
            deep := pg_stat_get_xact_tuples_returned('pgreact.queue_ready'::regclass) - entries > most_entries;
            if not floored then
                state.full_read_at := look_at;
                state.full_read := clock_timestamp() - look_at;
                if not deep then
                    heads := null;  -- vacuum has removed the dead entries
                end if;
            end if;
            if deep or not floored then
                state.floors := heads;
                moved := true;
            end if;
        end if;
        places := least(batch - claimed, coalesce(setting.max_in_progress - census.jobs, batch));
        exit when places <= 0;
        if census.bytes >= allowed then
            more := true;
            exit;
        end if;

        look_at := clock_timestamp();
        entries := pg_stat_get_xact_tuples_returned('pgreact.queue_ready'::regclass);
        chosen := pgreact.choose_jobs(places, reference_time, state.virtual_time, rated, exhausted, census.lanes, census.places,
            census.unstarted, heads);
        if heads is null and pg_stat_get_xact_tuples_returned('pgreact.queue_ready'::regclass) - entries > most_entries
            and (state.full_read_at is null
                or look_at not between state.full_read_at and state.full_read_at + pause * state.full_read)
        then
            heads := pgreact.queue_heads('{}');
            state.floors := heads;
            state.full_read_at := look_at;
            state.full_read := clock_timestamp() - look_at;
            moved := true;
        end if;
        exit when chosen is null;
        crowded := cardinality(chosen) = places;
        touched := 0;

        -- 7
        select array_agg(h.id), coalesce(sum(h.size), 0), count(h.key) > 0, coalesce(min(h.expires) <= reference_time, false)
        into free, bytes, keyed, stale_jobs
        from (
            select q.id, q.key, q.expires, coalesce(q.size, octet_length(concat(q.args, q.kwargs, q.options))) as size
            from pgreact.queue q
            where q.id = any (chosen)
            for update skip locked
        ) h;
        if coalesce(cardinality(free), 0) < cardinality(chosen) then
            skipped := true;
            for short in
                select q.lane as name, count(*) as jobs, greatest(batch, max_scan / count(*) over ()) as reach
                from pgreact.queue q
                where q.id = any (chosen)
                group by q.lane
                having count(*) > count(*) filter (where q.id = any (free))
            loop
                -- Rows that this claim has locked already count, so either all of the lane's places are filled or it has no more.
                select array_agg(f.id) into blocked
                from (
                    select q.id
                    from pgreact.lane_jobs(short.name, heads, 0, short.reach) r
                    join pgreact.queue q on q.id = r.id
                    order by r.priority desc, r.run_at, r.id
                    limit short.jobs
                    for update of q skip locked
                ) f;
                free := free || blocked;
                if coalesce(cardinality(blocked), 0) < short.jobs then
                    exhausted := exhausted || short.name;
                    touched := touched + 1;
                end if;
            end loop;
            free := array(select distinct f from unnest(free) f);
            select coalesce(sum(coalesce(q.size, octet_length(concat(q.args, q.kwargs, q.options)))), 0), count(q.key) > 0,
                coalesce(min(q.expires) <= reference_time, false)
            into bytes, keyed, stale_jobs
            from pgreact.queue q
            where q.id = any (free);
        end if;
        if census.bytes + bytes > allowed then
            more := true;
            free := pgreact.first_bytes(free, chosen, census.bytes);
        end if;
        chosen := free;

        -- 8
        blocked := null;
        if keyed then
            select o.jobs, o.keys into blocked, keys from pgreact.out_of_turn(chosen) o;
        end if;
        if blocked is not null then
            -- The job ahead unblocks its successor when it settles or is removed. A lock on its row proves that this has not
            -- begun, so that it will see these blocked jobs. Where the lock fails, contested_key lets the next claim check.
            with running as materialized (
                select p.key from pgreact.in_progress p where p.key = any (keys) for update skip locked
            ),
            waiting as materialized (
                select q.key, q.id
                from pgreact.queue q
                where q.id in (
                    select (select f.id from pgreact.queue f where f.key = k order by f.id limit 1) from unnest(keys) k
                )
                for update skip locked
            )
            select array_agg(distinct q.key)
            into keys
            from pgreact.queue q
            where q.id = any (blocked)
                and not exists (select from running r where r.key = q.key)
                and not exists (select from waiting v where v.key = q.key and v.id < q.id);
            if keys is not null then
                skipped := true;
                insert into pgreact.contested_key (key, claim_number)
                select k, state.claim_number + 1
                from unnest(keys) k
                where not exists (select from pgreact.contested_key c where c.key = k and c.claim_number >= state.oldest_contested);
            end if;
            update pgreact.queue q set state = 'blocked' where q.id = any (blocked);
            touched := touched + cardinality(blocked);
            chosen := array(select c from unnest(chosen) c where c <> all (blocked));
        end if;

        -- 9
        if stale_jobs then
            begin
                perform pgreact.drop_job(q.id, 'expired', format('not started before it expired at %s', q.expires))
                from pgreact.queue q
                where q.id = any (chosen) and q.expires <= reference_time;
                touched := touched + found::integer;
            exception
                when lock_not_available then  -- the history is locked
                    skipped := true;
                    chosen := array(
                        select q.id from pgreact.queue q where q.id = any (chosen) and coalesce(q.expires > reference_time, true)
                    );
            end;
        end if;

        messages := '{}';
        if bundling then
            select f.fitting, f.messages, f.full
            into chosen, messages, full_now
            from pgreact.fit_messages(chosen, census.waiting, census.lanes, census.places, census.unstarted) f;
            if full_now <> '{}' then
                exhausted := exhausted || full_now;
                touched := touched + crowded::integer;  -- other lanes may have had their places
            end if;
        end if;

        -- Taken after the census: a job that settled before the census has an earlier settled_at than this claimed_at.
        claim_time := pgreact.clock_now();
        with gone as (
            delete from pgreact.queue q
            using unnest(chosen, messages) m (id, number)
            where q.id = m.id
            -- the last transaction that wrote a row that has always been ready is the one that enqueued it
            returning q.*, m.number as message, case when tracked then pg_xact_commit_timestamp(q.xmin) end as committed_at
        ),
        here as (
            insert into pgreact.in_progress (id, lane, task, args, kwargs, priority, run_at, key, unique_key,
                unique_while, attempt, max_attempts, lost, max_lost, backoff, expires, options, resume, enqueued_at, task_id,
                retries, claimed_at, lease_until, claim_number, size, ready_at, committed_at, trace,
                published_at, bundle)
            select g.id, g.lane, g.task, g.args, g.kwargs, g.priority, g.run_at, g.key, g.unique_key,
                g.unique_while, least(g.attempt, 2147483646) + 1, g.max_attempts, g.lost, g.max_lost, g.backoff, g.expires,
                g.options, g.resume, g.enqueued_at, g.task_id,
                coalesce((g.resume ->> 'retries')::integer + (g.resume ->> 'before')::integer, 0) - 1,
                claim_time, claim_time + setting.lease, state.claim_number + 1,
                coalesce(g.size, octet_length(concat(g.args, g.kwargs, g.options))),
                greatest(g.run_at, g.enqueued_at, g.ready_at),
                g.committed_at,
                g.trace, claim_time, (state.claim_number + 1) * 100000000 + bundled + g.message
            from gone g
            returning lane, expires, bundle, size
        )
        select
            array_agg(h.lane) as lanes,
            array_agg(h.jobs) as jobs,
            array_agg(h.places) as places,
            max(h.last_bundle) as last_bundle,
            array_agg(coalesce(l.weight, 1)::float8) as weights,
            array_agg(l.rate) as rates,
            array_agg(l.burst) as bursts,
            coalesce(sum(h.jobs), 0)::integer as claimed,
            coalesce(sum(h.bytes), 0)::bigint as bytes,
            min(h.expires) as expires
        into served
        from (
            select h.lane, count(*)::integer as jobs, sum(h.size) as bytes, min(h.expires) as expires, max(h.bundle) as last_bundle,
                (count(*) filter (where h.bundle is null) + count(distinct h.bundle))::integer as places
            from here h
            group by h.lane
        ) h
        left join pgreact.lane l on l.name = h.lane;

        if served.claimed > 0 then
            claimed := claimed + served.claimed;
            claimed_bytes := claimed_bytes + served.bytes;
            next_expiry := least(next_expiry, served.expires);
            served_lanes := served.lanes;
            served_jobs := served.jobs;
            served_places := served.places;
            bundled := coalesce(served.last_bundle - (state.claim_number + 1) * 100000000, bundled);
            with free as materialized (
                select u.*
                from unnest(served.lanes, served.jobs, served.weights, served.rates, served.bursts)
                    u (lane, jobs, weight, rate, burst)
                join pgreact.lane_state s on s.lane = u.lane
                for update of s skip locked
            ),
            advanced as (
                update pgreact.lane_state s
                set virtual_time = greatest(s.virtual_time, state.virtual_time) + f.jobs / f.weight,
                    tokens = case when f.rate is not null then coalesce(s.tokens, f.burst) - f.jobs end,
                    -- drops the tokens since reference_time, so that the rate holds between the times in the history, too
                    tokens_at = claim_time,
                    claimed = s.claimed + f.jobs,
                    claim_number = state.claim_number + 1,
                    recent = s.recent * exp(-least(greatest(0, extract(epoch from reference_time - s.recent_at)) / 60, 99)) + f.jobs,
                    recent_at = reference_time
                from free f
                where s.lane = f.lane
                returning s.virtual_time - 1 / f.weight as virtual_time
            )
            select count(*), greatest(reached, max(a.virtual_time)) into accounted, reached from advanced a;
            if accounted < cardinality(served.lanes) then
                -- A lane's first jobs. A lane without a rate whose row is locked gets these jobs without moving its virtual time.
                with added as (
                    insert into pgreact.lane_state (lane, virtual_time, tokens, tokens_at, claimed, claim_number, recent, recent_at)
                    select u.lane, state.virtual_time + u.jobs / u.weight, case when u.rate is not null then u.burst - u.jobs end,
                        claim_time, u.jobs, state.claim_number + 1, u.jobs, reference_time
                    from unnest(served.lanes, served.jobs, served.weights, served.rates, served.bursts)
                        u (lane, jobs, weight, rate, burst)
                    where not exists (select from pgreact.lane_state s where s.lane = u.lane)
                    returning lane, virtual_time
                )
                select greatest(reached, max(a.virtual_time - 1 / u.weight)) into reached
                from added a
                join unnest(served.lanes, served.weights) u (lane, weight) on u.lane = a.lane;
                rated := rated || served.lanes;
                begin
                    insert into pgreact.lane (name, origin)
                    select u.lane, 'queue'
                    from unnest(served.lanes) u (lane)
                    where not exists (select from pgreact.lane l where l.name = u.lane)
                        -- a Celery queue may have a name that no lane can have: its lane has no row then
                        and length(u.lane) between 1 and 255 and u.lane !~ '[[:cntrl:]]'
                    on conflict do nothing;
                exception
                    when lock_not_available then null;  -- another transaction is creating the lane
                end;
            end if;
        end if;
        exit when touched = 0;
        -- Another pass costs as much for a few jobs as for many, and the next claim takes them at once.
        if claimed > 0.9 * batch then
            more := true;
            exit;
        end if;
        more := more or pass = 10;
    end loop;

    -- 10
    if claimed > 0 then
        -- A lane that was idle or could not be served continues from the virtual time of the last lane served, so it gets no
        -- more than its share afterwards.
        update pgreact.queue_state q
        set virtual_time = greatest(state.virtual_time, reached),
            claim_number = state.claim_number + 1,
            oldest_claim = coalesce(census.oldest_claim, state.claim_number + 1),
            oldest_contested = watermark;
    end if;
    if moved then
        update pgreact.queue_state q
        set full_read_at = state.full_read_at,
            full_read = state.full_read,
            delayed_floor = state.delayed_floor,
            floors = case
                when state.floors is not null then array(
                    select row(f.lane, f.priority, least(f.run_at, reference_time - margin),
                        case when f.run_at < reference_time - margin then f.id else 0 end, false, false)::pgreact.queue_head
                    from unnest(state.floors) f
                    where not f.single
                )
            end;
    end if;
    if state.held <> coalesce(unrenewed, '{}') then
        update pgreact.queue_state q set held = coalesce(unrenewed, '{}');
    end if;

    -- Full lanes with ready jobs. A start signals nothing, so where starts make room (max_unstarted) the next claim is due
    -- soon: after 50 ms while the lane makes progress, up to a second while it does not. idle: its places are taken and no message of
    -- it waits for a worker, so the place of a job that ends is idle until a claim.
    if heads is not null or exists (select from pgreact.queue q where q.state = 'ready' and q.lane is not null) then
        select
            jsonb_agg(jsonb_build_object('lane', c.lane, 'in_progress', c.jobs, 'unstarted', c.unstarted,
                'idle', coalesce(c.places >= c.max_in_progress, false) and c.lane <> all (coalesce(census.waiting, '{}')))),
            min(pgreact.clock_now() + greatest(interval '50 ms', least(interval '1 s', (reference_time - c.recent_at) / 2)))
                filter (where c.places < coalesce(c.max_in_progress, c.places + 1))
        into full_lanes, due
        from (
            select l.name as lane, l.max_in_progress, l.max_unstarted, s.recent_at,
                coalesce(u.jobs, 0) + coalesce(v.jobs, 0) as jobs, coalesce(u.places, 0) + coalesce(v.places, 0) as places,
                coalesce(u.unstarted, 0) + coalesce(v.jobs, 0) as unstarted
            from unnest(census.lanes, census.used, census.places, census.unstarted) u (lane, jobs, places, unstarted)
            full join unnest(served_lanes, served_places, served_jobs) v (lane, places, jobs) on v.lane = u.lane
            join pgreact.lane l on l.name = coalesce(u.lane, v.lane) and not l.paused
            left join pgreact.lane_state s on s.lane = l.name
        ) c
        where (c.unstarted >= c.max_unstarted or c.places >= c.max_in_progress)
            and exists (select from pgreact.lane_jobs(c.lane, heads, 0, 1));
    end if;

    -- Jobs claimed next start after those in the broker, so the leader may delay the claim of a freed place, unless something
    -- may wait for just that place: a lane with a rate, another lane, the next job of a key.
    if claimed > 0 and (full_lanes is not null or counted + claimed >= setting.max_in_progress) then
        with ready_lanes as materialized (
            -- not min and max: their plans, made while the queue is empty, would read the whole queue
            select
                (
                    select q.lane
                    from pgreact.queue q
                    where heads is null and q.state = 'ready' and q.lane is not null
                    order by q.lane, q.priority desc, q.run_at, q.id
                    limit 1
                ) as first,
                (
                    select q.lane
                    from pgreact.queue q
                    where heads is null and q.state = 'ready' and q.lane is not null
                    order by q.lane desc, q.priority, q.run_at desc, q.id desc
                    limit 1
                ) as last
            union all
            select min(h.lane), max(h.lane)
            from unnest(heads) h
            where exists (select from pgreact.lane_jobs(h.lane, heads, 0, 1))
        )
        select count(*)
        into unstarted
        from ready_lanes r
        join pgreact.lane l on l.name = r.first and l.name = r.last and l.rate is null
        join pgreact.in_progress p on p.claim_number >= state.oldest_claim and p.lane = l.name and p.started_at is null
        where not exists (select from pgreact.in_progress k where k.key is not null)
            -- in a lane at its limit a freed place is idle, unless messages wait
            and (l.max_in_progress is null or l.name = any (coalesce(census.waiting, '{}')));
    end if;

    -- This query is not cheap, and its result changes only when a lease has ended.
    if not census.unanswered then
        unanswered := '[]';
    elsif ended then
        select coalesce(jsonb_agg(to_jsonb(u)), '[]') into unanswered
        from pgreact.unanswered() u
        where u.sent >= 3 and u.verdict <> 'busy';
    end if;

    -- Tasks whose jobs all name a lane or a queue are not known yet: they could not be measured, nor bundled.
    if claimed > 1 and utf8 then
        select coalesce(unrouted, '{}') || array_agg(distinct p.task) into unrouted
        from pgreact.in_progress p
        where p.claim_number > state.claim_number and not exists (select from pgreact.task t where t.name = p.task);
    end if;

    -- 11
    if bundled > 0 then
        in_order := array(
            select p.id from pgreact.in_progress p where p.claim_number > state.claim_number order by p.priority desc, p.run_at, p.id
        );
        select jsonb_agg(jsonb_build_object('place', array_position(in_order, m.first), 'lane', m.lane, 'task', m.task, 'options', m.options::text, 'jobs', cardinality(m.claim_ids),
            'claim_ids', m.claim_ids, 'body', m.body))
        into bundles
        from (
            select p.lane, p.task, p.options, array_agg(p.claim_id) as claim_ids,
                (array_agg(p.id order by p.priority desc, p.run_at, p.id))[1] as first,
                -- not json_build_array, which takes three times as long
                '[' || string_agg(concat('[', p.id, ',"', p.claim_id, '","', p.task_id, '",', p.attempt, ',',
                    case when p.attempt - p.lost < p.max_attempts then 'true' else 'false' end,
                    ',', to_json(p.args::text), ',', to_json(p.kwargs::text), ']'), ',' order by p.priority desc, p.run_at, p.id) || ']'
                    as body
            from pgreact.in_progress p
            where p.claim_number > state.claim_number and p.bundle is not null
            group by p.bundle, p.lane, p.task, p.options
        ) m;
    end if;
    if census.unpublished then
        -- Attempts whose rows are locked are not published again: another transaction may be about to cancel them.
        with free as materialized (
            select p.id, p.claimed_at, p.priority, p.run_at, p.size
            from pgreact.in_progress p
            where p.claim_number between state.oldest_claim and state.claim_number and p.published_at is null
            order by p.claimed_at, p.priority desc, p.run_at, p.id
            limit 2 * batch
            for no key update skip locked
        ),
        fitting as (
            select f.id
            from (
                select n.id, sum(n.size) over (order by n.claimed_at, n.priority desc, n.run_at, n.id) - n.size as before
                from free n
            ) f
            where f.before < allowed
        ),
        marked as (
            update pgreact.in_progress p
            set published_at = reference_time
            from fitting f
            where p.id = f.id
            returning p.id
        )
        select array_agg(m.id), count(*) = 2 * batch or count(*) < (select count(*) from free)
        into again, left_over
        from marked m;
        skipped := skipped or exists (
            select
            from pgreact.in_progress p
            where p.claim_number between state.oldest_claim and state.claim_number and p.published_at is null
        );
        if again is not null then
            update pgreact.queue_state q set republished_at = reference_time;
        end if;
        more := more or left_over;
    end if;

    -- Step 7 has bounded the size of their texts, unless there are earlier attempts.
    select jsonb_agg(pgreact.job_message(p, array_position(in_order, p.id)) order by p.claimed_at, p.priority desc, p.run_at, p.id)
    into jobs
    from pgreact.in_progress p
    where p.claim_number >= case when again is not null then state.oldest_claim else state.claim_number + 1 end
        and (p.claim_number > state.claim_number and p.bundle is null or p.id = any (again));
    if not utf8 then
        select jsonb_agg(
            j.job || (
                select jsonb_object_agg(t.key, pgreact.readable(t.value))
                from jsonb_each_text(j.job) t
                where t.key in ('task', 'args', 'kwargs', 'options'))
            order by j.number)
        into jobs
        from jsonb_array_elements(jobs) with ordinality j (job, number);
    end if;
    more := more or claimed = batch;

    -- 12
    if next_delayed <= reference_time or ended then
        next_delayed := (
            select q.run_at from pgreact.queue q where q.state = 'delayed' and q.run_at > reference_time order by q.run_at limit 1
        );
    end if;
    if has_rate then
        select min(case
            when s.lane = any (rated)
                then s.tokens_at + make_interval(secs => least((1 - s.tokens) / l.rate + 0.001, 86400))
            else pgreact.clock_now() + interval '1 s'
        end)
        into next_token
        from pgreact.lane l
        join pgreact.lane_state s on s.lane = l.name
        where l.rate is not null and not l.paused and (s.tokens < 1 or s.lane <> all (rated))
            and exists (select from pgreact.lane_jobs(l.name, heads, 0, 1));
    end if;
    due := least(
        due,
        next_delayed,
        next_token,
        census.lease_until,
        case when claimed > 0 then claim_time + setting.lease end,
        next_expiry,
        case when skipped or census.ended then pgreact.clock_now() + interval '1 s' end,
        case when floored then pgreact.clock_now() + (state.full_read_at + pause * state.full_read - clock_timestamp()) end
    );

    return jsonb_build_object(
        'jobs', coalesce(jobs, '[]'),
        'bundles', coalesce(bundles, '[]'),
        'claimed', claimed,
        'more', more,
        'waiting', unstarted,
        'unrouted', unrouted,
        'full_lanes', coalesce(full_lanes, '[]'),
        'unanswered', unanswered,
        -- within a day, since due may be infinite
        'next_s', case when due is not null then
            extract(epoch from greatest(reference_time, least(due, reference_time + interval '1 day')) - pgreact.clock_now())
        end);
end
$$;
comment on function pgreact.claim_many(
    integer, pgreact.queue_state, pgreact.queue_setting, timestamptz, timestamptz, boolean, boolean)
    is 'the steps of pgreact.claim where more than one plain job is to be claimed, or anything else is to be done';
revoke all on function pgreact.claim_many(
    integer, pgreact.queue_state, pgreact.queue_setting, timestamptz, timestamptz, boolean, boolean) from public;
