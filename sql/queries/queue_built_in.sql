-- Whether the built-in rows of the queue exist.
select exists (select from pgreact.route r where r.name = 'pgreact.queue')
    and exists (select from pgreact.lane l where l.name = 'default')
    and exists (select from pgreact.queue_setting)
    and exists (select from pgreact.queue_state) as complete
