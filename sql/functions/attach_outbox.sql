-- By the name "enqueue" alone: the type of lane, and enqueue at the end, keep a call that names a route by position from
-- meaning this one.
create or replace function pgreact.attach(
    watched regclass,
    lane pgreact.lane_name default 'default',
    events text[] default '{insert,update,delete}',
    condition text default null,
    enqueue text default null
) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    key text[] := pgreact.outbox_key(watched);
    arguments text[];
    change text;
    called text;
    part regclass;
begin
    if watched is null or coalesce(enqueue, '') = '' or coalesce(cardinality(events), 0) = 0 then
        raise exception 'attach needs a table, at least one event, and a route or a task to enqueue'
            using errcode = 'null_value_not_allowed',
                hint = 'Like pgreact.attach(''public.orders'', enqueue => ''proj.tasks.order_changed''), '
                    'or pgreact.attach(''public.job_queue'', ''dispatch'', ''{insert}'').';
    end if;
    if length(enqueue) > 255 then
        raise exception 'the name of a task has 255 characters at most; this one has %', length(enqueue)
            using errcode = 'invalid_parameter_value', hint = 'It begins with ' || left(enqueue, 40) || '.';
    end if;
    perform pgreact.check_lane(lane, enqueue);
    perform pgreact.check_watched(watched);
    if key is null and events <> '{truncate}' then
        raise exception '% has no primary key, so a job cannot say which row changed', watched
            using errcode = 'object_not_in_prerequisite_state',
                hint = 'Add a primary key; or attach a route, which says only that something changed.';
    end if;

    foreach change in array events loop
        perform pgreact.check_event(change, condition);
        called := pgreact.outbox_trigger(enqueue, change);
        arguments := array[enqueue, lane] || case when change <> 'truncate' then key end;
        if exists (
            select from pg_trigger t where t.tgrelid = watched and t.tgname = called and t.tgparentid <> 0
        ) then
            -- It was cloned from a parent's trigger, which does the same, and cannot be replaced.
            if not exists (
                select
                from pg_partition_ancestors(watched) a
                join pgreact.outbox o on o.relation = a.relid
                where a.relid <> watched
                    and o.event = change
                    and o.task = attach.enqueue
                    and o.lane = attach.lane
                    and o.condition is not distinct from attach.condition
            ) then
                raise exception 'a parent of % enqueues "%" on % already, with another condition or lane',
                    watched, enqueue, change
                    using errcode = 'object_not_in_prerequisite_state',
                        hint = 'Attach with the same condition and lane, or to the parent alone.';
            end if;
            if exists (
                select
                from pg_trigger t
                where t.tgrelid = watched and t.tgname = called and t.tgenabled not in ('O', 'A')
            ) then
                execute format('alter table %s enable trigger %I', watched, called);
            end if;
        else
            for part in
                select c.oid
                from pg_class c
                where (c.oid = watched
                        -- nobody clones a truncate trigger
                        or change = 'truncate' and c.oid in (select p.relid from pg_partition_tree(watched) p))
                    -- Whoever attaches the same again should not wait for a lock, nor make writers wait.
                    and not exists (
                        select
                        from pg_trigger t
                        left join pgreact.outbox o
                            on o.relation = watched and o.event = change and o.task = attach.enqueue
                        where t.tgrelid = c.oid
                            and t.tgname = called
                            and t.tgfoid = 'pgreact.outbox_v1'::regproc
                            and t.tgargs = pgreact.trigger_arguments(arguments)
                            and (change = 'truncate'
                                or o.event is not null and o.condition is not distinct from attach.condition)
                            and not exists (
                                select
                                from pg_trigger d
                                where d.tgname = called
                                    and d.tgenabled not in ('O', 'A')
                                    and (d.tgrelid = c.oid
                                        or d.tgrelid in (select p.relid from pg_partition_tree(c.oid) p))
                            )
                    )
            loop
                execute format(
                    'create or replace trigger %I after %s on %s for each %s %s execute function pgreact.outbox_v1(%s)',
                    called, change, part, case when change = 'truncate' then 'statement' else 'row' end,
                    -- the line break ends a comment in the condition
                    'when (' || condition || E'\n)',
                    (select string_agg(quote_literal(a), ', ' order by n) from unnest(arguments) with ordinality u (a, n)));
            end loop;
        end if;
        insert into pgreact.outbox (relation, event, task, lane, condition)
        values (watched, change, enqueue, lane, condition)
        on conflict (relation, event, task) do update set lane = excluded.lane, condition = excluded.condition;
    end loop;
end
$$;
comment on function pgreact.attach(regclass, pgreact.lane_name, text[], text, text)
    is 'makes these changes of a table enqueue a job, named by enqueue => task; again changes nothing';
revoke all on function pgreact.attach(regclass, pgreact.lane_name, text[], text, text) from public;
