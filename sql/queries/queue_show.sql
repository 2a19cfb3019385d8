-- One job, wherever it is. Args, kwargs and options come as texts: they may be more than a client can read. What is not UTF-8
-- is shown with escapes.
with found as (
    select to_jsonb(q) as job, q.backoff from pgreact.queue q where q.id = %(job)s
    union all
    -- the table counts the messages that were sent in vain; one that may still be started counts here, too
    select to_jsonb(p) || jsonb_build_object('state', 'in_progress', 'publishes',
            p.publishes + (p.published_at is not null)::integer), p.backoff
    from pgreact.in_progress p
    where p.id = %(job)s
    union all
    select to_jsonb(d) || '{"state": "dead"}', d.backoff from pgreact.dead d where d.id = %(job)s
    limit 1
)
select
    (
        select jsonb_object_agg(e.key, case
            when e.key in ('args', 'kwargs', 'options') or pgreact.readable(e.value::text) <> e.value::text
                then to_jsonb(pgreact.readable(e.value #>> '{}'))
            else e.value
        end)
        from found f
        cross join jsonb_each(f.job || jsonb_build_object('backoff', extract(epoch from f.backoff)::float8)) e
    ) as job,
    (
        select coalesce(
            (select min(p.id) from pgreact.in_progress p where p.key = q.key),
            (select min(b.id) from pgreact.queue b where b.key = q.key and b.id < q.id)
        )
        from pgreact.queue q
        where q.id = %(job)s and q.key is not null
    ) as blocked_by,
    coalesce(
        (
            select jsonb_agg(a.attempt order by a.settled_at)
            from (
                select h.settled_at, jsonb_object_agg(e.key, case
                    when pgreact.readable(e.value::text) <> e.value::text then to_jsonb(pgreact.readable(e.value #>> '{}'))
                    else e.value
                end) as attempt
                from pgreact.history h
                cross join jsonb_each(to_jsonb(h)) e
                where h.id = %(job)s
                group by h.attempt, h.settled_at
            ) a
        ),
        '[]'
    ) as history
