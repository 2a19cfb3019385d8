-- A claim returns 8 MiB of arguments at most, or one job; those of jobs whose messages the broker has not taken yet count.
create or replace function pgreact.first_bytes(jobs bigint[], chosen bigint[], unpublished bigint) returns bigint[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select s.id
        from (
            select q.id,
                sum(coalesce(q.size, octet_length(concat(q.args, q.kwargs, q.options)))) over first_come
                    - coalesce(q.size, octet_length(concat(q.args, q.kwargs, q.options))) as before
            from pgreact.queue q
            left join unnest(chosen) with ordinality c (id, place) on c.id = q.id
            where q.id = any (jobs)
            window first_come as (order by c.place, q.id)
        ) s
        where unpublished + s.before < pgreact.claim_bytes()
    );
end
$$;
comment on function pgreact.first_bytes(bigint[], bigint[], bigint)
    is 'those of these jobs, in the order in which they were chosen, whose arguments one claim may return';
revoke all on function pgreact.first_bytes(bigint[], bigint[], bigint) from public;
