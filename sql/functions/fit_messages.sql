-- The part of the chosen jobs that finds room in messages, and those of them that may share one: for the claim and for its preview.
-- pgreact.lane_rooms has made room for bundles, so this leaves out jobs that would travel alone beyond the max_unstarted of their lane.
--
-- waiting: lanes with messages that wait for a worker. They show that none is idle: see pgreact.bundleable.
create or replace function pgreact.fit_messages(
    chosen bigint[], waiting text[], lanes text[], unstarted bigint[], out fitting bigint[], out shared bigint[])
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    total bigint := cardinality(chosen) + coalesce((select sum(u) from unnest(unstarted) u), 0);
begin
    fitting := chosen;
    if cardinality(chosen) > 1 then
        shared := pgreact.bundleable(chosen, waiting);
    end if;
    if total <= 200 and not exists (select from pgreact.lane l where l.max_unstarted < total) then
        return;  -- the usual case
    end if;
    fitting := array(
        select f.id
        from (
            select m.id, m.place,
                -- jobs behind one that finds no room do not overtake it: it would wait as long as jobs come that share messages
                bool_and(m.bundled or m.number <= coalesce(l.max_unstarted, 200) - coalesce(u.unstarted, 0))
                    over (partition by m.lane order by m.place) as fits
            from (
                select q.id, q.lane, c.place, b.id is not null as bundled,
                    row_number() over (partition by q.lane, b.id is not null order by c.place) as number
                from unnest(chosen) with ordinality c (id, place)
                join pgreact.queue q on q.id = c.id
                left join unnest(shared) b (id) on b.id = c.id
            ) m
            left join unnest(lanes, unstarted) u (lane, unstarted) on u.lane = m.lane
            left join pgreact.lane l on l.name = m.lane
        ) f
        where f.fits
        order by f.place
    );
end
$$;
comment on function pgreact.fit_messages(bigint[], text[], text[], bigint[])
    is 'which of these jobs find room in messages, by the max_unstarted of their lanes; shared: which of them may share one';
revoke all on function pgreact.fit_messages(bigint[], text[], text[], bigint[]) from public;
