-- One job, wherever it is.
select
    coalesce(
        (select to_jsonb(q) from pgreact.queue q where q.id = %(job)s),
        (select to_jsonb(p) || '{"state": "in_progress"}' from pgreact.in_progress p where p.id = %(job)s),
        (select to_jsonb(d) || '{"state": "dead"}' from pgreact.dead d where d.id = %(job)s)
    ) as job,
    (
        select coalesce(
            (select min(p.id) from pgreact.in_progress p where p.key = q.key),
            (select min(b.id) from pgreact.queue b where b.key = q.key and b.id < q.id)
        )
        from pgreact.queue q
        where q.id = %(job)s and q.key is not null
    ) as behind,
    coalesce(
        (select jsonb_agg(to_jsonb(h) order by h.settled_at) from pgreact.history h where h.id = %(job)s), '[]'
    ) as history
