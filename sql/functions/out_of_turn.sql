-- Jobs of one key run one at a time, ordered by id. For the claim and for its preview.
create or replace function pgreact.out_of_turn(chosen bigint[], out jobs bigint[], out keys text[])
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- Materialized: otherwise a plan may search the whole index of keys for the ids.
    with mine as materialized (
        select m.id, m.key from pgreact.queue m where m.id = any (chosen)
    )
    select array_agg(q.id), array_agg(distinct q.key) into jobs, keys
    from mine q
    where q.key is not null
        and (exists (select from pgreact.in_progress p where p.key = q.key)
            or exists (select from pgreact.queue b where b.key = q.key and b.id < q.id));
end
$$;
comment on function pgreact.out_of_turn(bigint[])
    is 'those of these jobs whose key is in progress or has an earlier waiting job, and their keys; null: none';
revoke all on function pgreact.out_of_turn(bigint[]) from public;
