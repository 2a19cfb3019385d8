-- A loop is three times as fast here as unnest and array_agg.
create or replace function pgreact.add_counts(a bigint[], b bigint[]) returns bigint[]
    language plpgsql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
begin
    if a = '{}' then
        return b;
    end if;
    for n in 1..cardinality(b) loop
        if b[n] <> 0 then
            a[n] := a[n] + b[n];
        end if;
    end loop;
    return a;
end
$$;
comment on function pgreact.add_counts(bigint[], bigint[]) is 'adds two histograms of as many buckets; an empty array counts as zeros';
revoke all on function pgreact.add_counts(bigint[], bigint[]) from public;
