-- The highest id of a job, and the time: an action on what a filter matches now touches no later ones.
select
    greatest(
        (select max(q.id) from pgreact.queue q),
        (select max(p.id) from pgreact.in_progress p),
        (select max(d.id) from pgreact.dead d),
        0
    ),
    pgreact.clock_now()
