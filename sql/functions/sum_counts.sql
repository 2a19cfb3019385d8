create or replace aggregate pgreact.sum_counts(bigint[]) (
    sfunc = pgreact.add_counts,
    stype = bigint[],
    initcond = '{}',
    parallel = safe
);
comment on aggregate pgreact.sum_counts(bigint[]) is 'adds histograms';
revoke all on function pgreact.sum_counts(bigint[]) from public;
