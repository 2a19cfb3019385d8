-- Counts a batch of rows of pgreact.settled into tally and tally_total and deletes them, in one transaction: a row is counted once,
-- however leaders change, and one whose transaction commits late is counted then, into the minute in which it was settled. Then
-- it folds minutes older than two days into tally_hour, and deletes what is older than 90 days.
--
-- Returns the rows counted; a full batch means that there may be more. Null: another session rolls up.
create or replace function pgreact.roll_up(batch integer default 10000) returns integer
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
    set enable_seqscan = off
    set jit = off
    set lock_timeout = '100ms'
as $$
declare
    state pgreact.tally_state;
    seen constant pg_snapshot := pg_current_snapshot();  -- the scan, which is later, sees all rows that this sees
    bounds constant double precision[] := pgreact.buckets();
    cells pgreact.tally[];
    counted integer;
    fold_until constant timestamptz := date_trunc('hour', now() - interval '2 days');
begin
    select t.* into state from pgreact.tally_state t for update skip locked;
    if not found then
        return null;
    end if;
    if pg_snapshot_xmax(state.counted) > pg_snapshot_xmax(pg_current_snapshot()) then
        state.counted := '1:1:';  -- restored from another server
    end if;
    with gone as materialized (
        delete from pgreact.settled s
        where s.ctid = any (array(
            -- of transactions that ran then, and of later ones
            (select o.ctid from pgreact.settled o where o.xid = any (array(select pg_snapshot_xip(state.counted))) limit batch)
            union all
            (select o.ctid from pgreact.settled o where o.xid >= pg_snapshot_xmax(state.counted) order by o.xid limit batch)
            limit batch
        ))
        -- cut: an index has a limit
        returning date_trunc('minute', s.settled_at) as minute, left(coalesce(s.lane, ''), 255) as lane,
            left(s.task, 255) as task, s.outcome,
            s.transaction_s::float8, s.claim_s::float8, s.publish_s::float8, s.broker_s::float8, s.run_s::float8,
            coalesce(s.transaction_s, 0)::float8 + s.claim_s + s.publish_s + s.broker_s as wait_s
    ),
    found as (
        select (
            g.minute, g.lane, g.task, g.outcome, count(*),
            pgreact.histogram(array_agg(width_bucket(g.wait_s, bounds))), coalesce(sum(g.wait_s), 0),
            pgreact.histogram(array_agg(width_bucket(g.run_s, bounds))), coalesce(sum(g.run_s), 0),
            count(g.transaction_s), coalesce(sum(g.transaction_s), 0), coalesce(sum(g.claim_s), 0),
            coalesce(sum(g.publish_s), 0), coalesce(sum(g.broker_s), 0)
        )::pgreact.tally as cell
        from gone g
        group by g.minute, g.lane, g.task, g.outcome
    )
    select array_agg(f.cell), coalesce(sum((f.cell).jobs), 0) into cells, counted from found f;
    if counted > 0 then
        perform pgreact.add_tally('pgreact.tally', cells);
        perform pgreact.add_tally('pgreact.tally_total', pgreact.fold_tally(cells, 'all'));
    end if;
    if counted < batch and state.counted::text <> seen::text then
        update pgreact.tally_state t set counted = seen;
    end if;

    if state.folded_until < fold_until then
        with gone as (
            delete from pgreact.tally t
            where t.ctid = any (array(select o.ctid from pgreact.tally o where o.minute < fold_until order by o.minute limit batch))
            returning t.*
        )
        select array_agg(g::pgreact.tally) into cells from gone g;
        if cells is not null then
            perform pgreact.add_tally('pgreact.tally_hour', pgreact.fold_tally(cells, 'hour'));
        end if;
        if coalesce(cardinality(cells), 0) < batch then
            update pgreact.tally_state t set folded_until = fold_until;
            delete from pgreact.tally_hour h where h.minute < now() - interval '90 days';
            delete from pgreact.tally_total t where t.minute < now() - interval '90 days';
        end if;
    end if;
    return counted;
end
$$;
comment on function pgreact.roll_up(integer)
    is 'counts settled attempts into tally and tally_total; returns how many, or null: another session does';
revoke all on function pgreact.roll_up(integer) from public;
