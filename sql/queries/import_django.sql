-- The periodic tasks of django-celery-beat 2.1 or later.
select
    p.name, p.task, p.args, p.kwargs,
    num_nonnulls(p.queue, p.exchange, p.routing_key, p.priority, p.expires, p.expire_seconds, nullif(p.headers, '{}')) as options,
    p.queue, p.exchange, p.routing_key, p.headers, p.priority, p.expires, p.expire_seconds,
    p.one_off, p.start_time, p.enabled, p.last_run_at, p.total_run_count, p.date_changed, p.description,
    p.interval_id, i.every, i.period,
    p.crontab_id, c.minute, c.hour, c.day_of_month, c.month_of_year, c.day_of_week, c.timezone,
    p.solar_id, s.event, s.latitude, s.longitude,
    p.clocked_id, k.clocked_time
from django_celery_beat_periodictask p
left join django_celery_beat_intervalschedule i on i.id = p.interval_id
left join django_celery_beat_crontabschedule c on c.id = p.crontab_id
left join django_celery_beat_solarschedule s on s.id = p.solar_id
left join django_celery_beat_clockedschedule k on k.id = p.clocked_id
order by p.id
