create or replace function pgreact.tend_schedule_history() returns void
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
delete from pgreact.schedule_history h
where h.fired_at < now() - coalesce((select s.history from pgreact.schedule s where s.name = h.schedule), interval '0')
$$;
comment on function pgreact.tend_schedule_history() is 'forgets what the schedules no longer want to be remembered';
revoke all on function pgreact.tend_schedule_history() from public;
