create or replace function pgreact.add_tally(target regclass, cells pgreact.tally[]) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    execute format(
        'insert into %s as t select c.* from unnest($1) c order by c.minute, c.lane, c.task, c.outcome '
        'on conflict on constraint %I do update set '
        'minute = excluded.minute, jobs = t.jobs + excluded.jobs, '
        'waits = pgreact.add_counts(t.waits, excluded.waits), wait_s = t.wait_s + excluded.wait_s, '
        'runs = pgreact.add_counts(t.runs, excluded.runs), run_s = t.run_s + excluded.run_s, '
        'transactions = t.transactions + excluded.transactions, transaction_s = t.transaction_s + excluded.transaction_s, '
        'claim_s = t.claim_s + excluded.claim_s, publish_s = t.publish_s + excluded.publish_s, '
        'broker_s = t.broker_s + excluded.broker_s',
        target, (select c.conname from pg_constraint c where c.conrelid = target and c.contype = 'p'))
    using cells;
end
$$;
comment on function pgreact.add_tally(regclass, pgreact.tally[]) is 'adds numbers of attempts to tally, tally_hour or tally_total';
revoke all on function pgreact.add_tally(regclass, pgreact.tally[]) from public;
