-- Which jobs may share a message: first attempts that were measured to be short, without anything that concerns one message alone.
-- Jobs of a lane with a rate travel alone, since a job that a worker hands back has used its token.
--
-- waiting: lanes with messages that wait for a worker. They show that none is idle. In other lanes jobs of a message, which run one after
-- the other, would wait for each other; so there only many jobs share messages, that end before a worker has received the next one.
create or replace function pgreact.bundleable(jobs bigint[], waiting text[]) returns bigint[]
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select f.id
        from (
            select q.id,
                q.lane = any (coalesce(waiting, '{}'))
                    -- a message costs a worker about 1 ms
                    or t.run_s < 0.001 and count(*) over (partition by q.lane, q.task) >= 32 as shared
            from pgreact.queue q
            join pgreact.task t on t.name = q.task
            left join pgreact.lane l on l.name = q.lane
            where q.id = any (jobs)
                and pgreact.is_short(t)
                and q.attempt = 0
                and q.resume is null
                and q.trace is null
                and q.size <= 4096
                and q.options - '{queue,shadow,priority,ignore_result}'::text[] = '{}'
                and coalesce(q.max_lost, l.max_lost, 3) > 0
                and l.bundle is distinct from 1
                and l.rate is null
                and getdatabaseencoding() = 'UTF8'
        ) f
        where f.shared
    );
end
$$;
comment on function pgreact.bundleable(bigint[], text[]) is 'those of these jobs that may share a message';
revoke all on function pgreact.bundleable(bigint[], text[]) from public;
