create or replace function pgreact.fold_tally(cells pgreact.tally[], field text) returns pgreact.tally[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
as $$
begin
    return (
        select array_agg(f.cell)
        from (
            select (
                coalesce(c.span, max(c.minute)), c.lane, c.task, c.outcome, sum(c.jobs)::bigint,
                pgreact.sum_counts(c.waits), sum(c.wait_s), pgreact.sum_counts(c.runs), sum(c.run_s),
                sum(c.transactions)::bigint, sum(c.transaction_s), sum(c.claim_s), sum(c.publish_s), sum(c.broker_s)
            )::pgreact.tally as cell
            from (
                select n.*, case field when 'hour' then date_trunc('hour', n.minute) end as span from unnest(cells) n
            ) c
            group by c.span, c.lane, c.task, c.outcome
        ) f
    );
end
$$;
comment on function pgreact.fold_tally(pgreact.tally[], text) is 'adds up numbers of attempts: by hour, or (all) over all time';
revoke all on function pgreact.fold_tally(pgreact.tally[], text) from public;
