-- Keeps pgreact.task.run_s, by which claims bundle jobs. It writes seldom, only when a run took clearly more or less, and waits for no
-- lock. Callers pass a sample of the runs, and each run that was long. Runs below 0.2 ms, which vary by more than that, count as 0.2 ms: to
-- a claim they are the same.
create or replace function pgreact.measure_run(task text, run_s double precision) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    sample double precision := greatest(measure_run.run_s, 0.0002);
begin
    update pgreact.task t
    set run_s = coalesce(0.7 * t.run_s + 0.3 * sample, sample)
    from (
        select n.name
        from pgreact.task n
        where n.name = measure_run.task
            and (n.run_s is null or sample not between n.run_s / 1.5 and n.run_s * 1.5)
        for no key update skip locked
    ) f
    where t.name = f.name;
end
$$;
comment on function pgreact.measure_run(text, double precision) is 'takes the seconds of a run into the moving average of its task';
revoke all on function pgreact.measure_run(text, double precision) from public;
