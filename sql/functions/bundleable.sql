-- Which jobs may share a message: first attempts that were measured to be short, without anything that concerns one message alone.
-- Jobs of a lane with a rate travel alone, since a job that a worker hands back has used its token.
create or replace function pgreact.bundleable(jobs bigint[]) returns bigint[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select q.id
        from pgreact.queue q
        join pgreact.task t on t.name = q.task
        left join pgreact.lane l on l.name = q.lane
        where q.id = any (jobs)
            and pgreact.is_short(t)
            and q.attempt = 0
            and q.alone is null
            and q.resume is null
            and q.trace is null
            and q.size <= 4096
            and q.options - '{queue,shadow,priority,ignore_result}'::text[] = '{}'
            and coalesce(q.max_lost, l.max_lost, 3) > 0
            and l.bundle is distinct from 1
            and l.rate is null
            and getdatabaseencoding() = 'UTF8'
    );
end
$$;
comment on function pgreact.bundleable(bigint[]) is 'those of these jobs that may share a message';
revoke all on function pgreact.bundleable(bigint[]) from public;
