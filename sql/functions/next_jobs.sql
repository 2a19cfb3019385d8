-- The jobs that the next claim takes, by the claim's own rules and in the same passes, without a lock and without a change. A claim
-- begins with changes that this does not foresee: delayed jobs that are due, keys to unblock, ended leases. It also reads past rows
-- that other transactions have locked, and drops expired jobs, which may unblock the next one of their key.
create or replace function pgreact.next_jobs(batch integer default 100) returns bigint[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
    set plan_cache_mode = force_generic_plan
as $$
declare
    at timestamptz := pgreact.clock_now();
    setting pgreact.queue_setting;
    virtual_time float8 := (select s.virtual_time from pgreact.queue_state s);
    use record;
    taken bigint[];
    found_jobs bigint[] := '{}';
    passed bigint[] := '{}';
    places integer;
    chosen bigint[];
    blocked bigint[];
    dropped bigint[];
    messages integer[];
    full_lanes text[];
    crowded boolean;
    exhausted text[] := '{}';
begin
    select s.* into setting from pgreact.queue_setting s;
    select u.* into use from pgreact.places_used() u;
    for pass in 1..10 loop
        places := least(batch - cardinality(found_jobs), coalesce(setting.max_in_progress - use.jobs, batch));
        exit when places <= 0 or use.bytes >= pgreact.claim_bytes();
        chosen := pgreact.choose_jobs(places, at, virtual_time, null, exhausted, use.lanes, use.used, use.unstarted, null, taken,
            passed);
        exit when chosen is null;
        crowded := cardinality(chosen) = places;
        chosen := pgreact.first_bytes(chosen, chosen, use.bytes);
        blocked := coalesce((pgreact.out_of_turn(chosen)).jobs, '{}');
        dropped := array(select q.id from pgreact.queue q where q.id = any (chosen) and q.expires <= at);
        passed := passed || chosen;
        chosen := array(select c from unnest(chosen) c where c <> all (blocked) and c <> all (dropped));
        select f.fitting, f.messages, f.full
        into chosen, messages, full_lanes
        from pgreact.fit_messages(chosen, use.waiting, use.lanes, use.used, use.unstarted) f;
        exhausted := exhausted || full_lanes;
        found_jobs := found_jobs || chosen;
        exit when blocked = '{}' and dropped = '{}' and not (crowded and full_lanes <> '{}');
        exit when cardinality(found_jobs) > 0.9 * batch;

        select array_agg(l.lane), array_agg(l.used), array_agg(l.unstarted), array_agg(l.taken), use.jobs + cardinality(chosen),
            use.bytes + coalesce(sum(l.bytes), 0)
        into use.lanes, use.used, use.unstarted, taken, use.jobs, use.bytes
        from (
            select coalesce(u.lane, c.lane) as lane, coalesce(u.used, 0) + coalesce(c.places, 0) as used,
                coalesce(u.unstarted, 0) + coalesce(c.jobs, 0) as unstarted, coalesce(u.taken, 0) + coalesce(c.jobs, 0) as taken,
                c.bytes
            from unnest(use.lanes, use.used, use.unstarted, taken) u (lane, used, unstarted, taken)
            full join (
                select q.lane, count(*) as jobs, count(*) filter (where m.message is null) + count(distinct m.message) as places,
                    sum(coalesce(q.size, octet_length(concat(q.args, q.kwargs, q.options)))) as bytes
                from unnest(chosen, messages) m (id, message)
                join pgreact.queue q on q.id = m.id
                group by q.lane
            ) c on c.lane = u.lane
        ) l;
    end loop;
    return found_jobs;
end
$$;
comment on function pgreact.next_jobs(integer) is 'the jobs that the next claim takes, unless something changes before';
revoke all on function pgreact.next_jobs(integer) from public;
