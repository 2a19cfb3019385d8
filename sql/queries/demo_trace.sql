select (select count(*) from pgreact.queue q where q.id = any (%(jobs)s))
    + (select count(*) from pgreact.in_progress p where p.id = any (%(jobs)s))
    + (select count(*) from pgreact.history h where h.id = any (%(jobs)s))
