create or replace function pgreact.histogram(buckets integer[]) returns bigint[]
    language sql
    immutable
    parallel safe
    set search_path = pg_catalog, pg_temp
as $$
    select array(
        select count(b.bucket)
        from generate_series(0, cardinality(pgreact.buckets())) n
        left join unnest(buckets) b (bucket) on b.bucket = n
        group by n
        order by n
    )
$$;
comment on function pgreact.histogram(integer[]) is 'counts values by their buckets, as width_bucket(value, pgreact.buckets()) numbers them';
revoke all on function pgreact.histogram(integer[]) from public;
