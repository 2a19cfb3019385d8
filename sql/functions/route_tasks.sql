-- Stores the routing of tasks, and moves jobs that were enqueued before it was known to their lanes.
create or replace function pgreact.route_tasks(routes jsonb) returns integer
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '500ms'
as $$
declare
    batch constant integer := 10000;
    moved integer;
begin
    insert into pgreact.task as t (name, queue, expires, alone)
    select r.name, r.queue, r.expires * interval '1 s', coalesce(r.alone, false)
    from jsonb_to_recordset(routes) r (name text, queue text, expires float8, alone boolean)
    on conflict (name) do update
    set queue = excluded.queue, expires = excluded.expires, alone = excluded.alone
    where (t.queue, t.expires, t.alone) is distinct from (excluded.queue, excluded.expires, excluded.alone);
    begin
        insert into pgreact.lane (name, origin)
        select distinct r.queue, 'queue'
        from jsonb_to_recordset(routes) r (queue text)
        -- "on conflict" would wait for a transaction that edits the lane
        where not exists (select from pgreact.lane l where l.name = r.queue)
            and length(r.queue) between 1 and 255 and r.queue !~ '[[:cntrl:]]'  -- else it has no row, and no limits
        on conflict do nothing;
    exception
        when lock_not_available then null;  -- another transaction is creating it; if that rolls back, the first claim creates it
    end;
    update pgreact.queue q
    set lane = t.queue, expires = coalesce(q.expires, q.enqueued_at + t.expires)
    from pgreact.task t
    where t.name = q.task
        and q.id in (
            select u.id
            from pgreact.queue u
            where u.state = 'ready' and u.lane is null
                and u.task in (select r.name from jsonb_to_recordset(routes) r (name text))
            order by u.priority desc, u.run_at, u.id
            limit batch
            for update skip locked
        );
    get diagnostics moved = row_count;
    return moved;
end
$$;
comment on function pgreact.route_tasks(jsonb) is 'stores which Celery queues tasks are routed to; returns the number of jobs that got their lane by that';
revoke all on function pgreact.route_tasks(jsonb) from public;
