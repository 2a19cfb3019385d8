-- A part at a time, from one id on, so that no transaction is long and none reads again what the one before it deleted.
-- It waits for nobody: what somebody holds is left, for a pass that begins anew.
create or replace function pgreact.purge(
    lane text default null,
    dead boolean default false,
    beyond bigint default 0,
    batch integer default 10000,
    out purged bigint,
    out last bigint
)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    chosen bigint[];
    keys text[];
begin
    if dead then
        select array_agg(c.id order by c.id) into chosen
        from (
            select d.id
            from pgreact.dead d
            where d.id > beyond and (purge.lane is null or d.lane = purge.lane)
            order by d.id
            limit batch
            for update skip locked
        ) c;
        delete from pgreact.dead d where d.id = any (chosen);
        get diagnostics purged = row_count;
        last := chosen[cardinality(chosen)];
        return;
    end if;
    select array_agg(c.id order by c.id) into chosen
    from (
        select q.id
        from pgreact.queue q
        where q.id > beyond and (purge.lane is null or q.lane = purge.lane)
        order by q.id
        limit batch
    ) c;
    last := chosen[cardinality(chosen)];
    with gone as (
        delete from pgreact.queue q
        where q.id in (select c.id from pgreact.queue c where c.id = any (chosen) for update skip locked)
        returning q.*
    ),
    kept as materialized (
        select g.key, pgreact.record_history(g, 'cancelled', null) from gone g
    )
    select count(*), array_agg(distinct k.key) filter (where k.key is not null) into purged, keys from kept k;
    if keys is not null then
        -- jobs of other lanes may have waited for these
        perform pgreact.unblock_next(k, 9223372036854775807) from unnest(keys) k;
        perform pgreact.signal('pgreact.queue');
    end if;
end
$$;
comment on function pgreact.purge(text, boolean, bigint, integer)
    is 'deletes so many jobs that wait, or are dead, with higher ids; says how many, and the last id it looked at';
revoke all on function pgreact.purge(text, boolean, bigint, integer) from public;
