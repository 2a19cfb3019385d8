-- Whether all is there that the queue needs before anybody configures it.
select exists (select from pgreact.route r where r.name = 'pgreact.queue')
    and exists (select from pgreact.lane l where l.name = 'default')
    and exists (select from pgreact.queue_setting)
    and exists (select from pgreact.queue_state) as complete
