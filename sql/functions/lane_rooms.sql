-- The limits of lanes, for the claim and for pgreact.why_job, which share this rule: room is how many more jobs of a lane may be
-- claimed now, the least of what max_in_progress, max_unstarted and the rate leave; 0 while the lane is paused.
--
-- lanes, used, unstarted, taken: places taken by lane (a bundle takes one), jobs that no worker has started, and those of them that a preview of
-- the claim has taken, whose tokens and virtual time lane_state does not show. rated: the lanes with a rate whose tokens the claim has
-- locked; of others it takes none; null: any.
-- A lane without a row in pgreact.lane (a Celery queue's first job, a deleted lane) has no limits but the default max_unstarted.
-- short: lanes whose next job is short. Each of their places has room for a bundle of 100 jobs, or of as many as the lane allows.
-- max_unstarted bounds messages. Five jobs at least share the message of a bundle, so a lane whose jobs may be bundled has room for five
-- times as many; pgreact.fit_messages then leaves out those that would travel alone.
create or replace function pgreact.lane_rooms(
    names text[], at timestamptz, rated text[], lanes text[], used bigint[], unstarted bigint[], taken bigint[] default null,
    short text[] default '{}')
    returns table (
        lane text, paused boolean, weight float8, virtual_time float8, taken_jobs bigint,
        in_progress bigint, max_in_progress integer, not_started bigint, max_unstarted integer,
        rate float8, burst integer, tokens float8, room float8)
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
    rows 10
as $$
#variable_conflict use_column
declare
    bundled boolean := exists (select from pgreact.task t where pgreact.is_short(t));
begin
    return query
    select r.lane, r.paused, r.weight, r.virtual_time, r.taken_jobs, r.in_progress, r.max_in_progress, r.not_started, r.max_unstarted,
        r.rate, r.burst, r.tokens,
        case
            when r.paused then 0
            else greatest(0, least(
                (r.max_in_progress - r.in_progress) * r.bundle,
                -- keeps messages that no worker takes from flooding the broker
                r.max_unstarted - r.not_started,
                floor(r.tokens)
            ))
        end
    from (
        select
            n.lane,
            coalesce(l.paused, false) as paused,
            coalesce(l.weight, 1)::float8 as weight,
            s.virtual_time,
            coalesce(u.taken, 0) as taken_jobs,
            coalesce(u.used, 0) as in_progress,
            l.max_in_progress,
            coalesce(u.unstarted, 0) as not_started,
            least(2147483647, coalesce(l.max_unstarted, 200)::bigint
                * case when bundled and l.bundle is distinct from 1 and l.rate is null then 5 else 1 end)::integer as max_unstarted,
            l.rate,
            l.burst,
            case
                when l.rate is null then null
                when s.lane is null or rated is null or s.lane = any (rated)
                    then pgreact.lane_tokens(s.tokens, s.tokens_at, l.rate, l.burst, at) - coalesce(u.taken, 0)
                else 0
            end as tokens,
            case
                when n.lane = any (short) and l.bundle is distinct from 1 and l.rate is null then least(coalesce(l.bundle, 100), 100)
                else 1
            end::bigint as bundle
        from unnest(names) n (lane)
        left join pgreact.lane l on l.name = n.lane
        left join pgreact.lane_state s on s.lane = n.lane
        left join unnest(lanes, used, unstarted, taken) u (lane, used, unstarted, taken) on u.lane = n.lane
    ) r;
end
$$;
comment on function pgreact.lane_rooms(text[], timestamptz, text[], text[], bigint[], bigint[], bigint[], text[])
    is 'how many more jobs of each lane may be claimed now, and by which limits';
revoke all on function pgreact.lane_rooms(text[], timestamptz, text[], text[], bigint[], bigint[], bigint[], text[]) from public;
