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
    select array_agg(c.id order by c.id), array_agg(distinct c.key) filter (where c.key is not null)
    into chosen, keys
    from (
        select q.id, q.key
        from pgreact.queue q
        where q.id > beyond and (purge.lane is null or q.lane = purge.lane)
        order by q.id
        limit batch
    ) c;
    last := chosen[cardinality(chosen)];
    -- The first of a key stands for all of it, as in drop_job.
    select array_agg(h.key) into keys
    from (
        select q.key
        from pgreact.queue q
        where q.id in (
            select (select f.id from pgreact.queue f where f.key = k order by f.id limit 1) from unnest(keys) k
        )
        for update skip locked
    ) h;
    with gone as (
        delete from pgreact.queue q
        where q.id in (
            select c.id
            from pgreact.queue c
            where c.id = any (chosen) and (c.key is null or c.key = any (keys))
            for update skip locked
        )
        returning q.*
    ),
    kept as (
        insert into pgreact.history (id, lane, task, key, attempt, outcome, enqueued_at, settled_at)
        select g.id, g.lane, g.task, g.key, g.attempt, 'cancelled', g.enqueued_at, clock_timestamp()
        from gone g
        where (select s.keep is not null from pgreact.queue_setting s)
    )
    select count(*) into purged from gone;
    if keys is not null then
        -- jobs of other lanes may have waited for these
        update pgreact.queue q
        set state = 'ready'
        from unnest(keys) k (key)
        where q.id = (select f.id from pgreact.queue f where f.key = k.key order by f.id limit 1)
            and q.state = 'behind';
        perform pgreact.signal('pgreact.queue');
    end if;
end
$$;
comment on function pgreact.purge(text, boolean, bigint, integer)
    is 'deletes so many jobs that wait, or are dead, with higher ids; says how many, and the last id it looked at';
revoke all on function pgreact.purge(text, boolean, bigint, integer) from public;
