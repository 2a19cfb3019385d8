create or replace function pgreact.attach(
    watched regclass,
    route text,
    events text[],
    condition text default null
) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    known integer := (select r.id from pgreact.route r where r.name = attach.route);
    kind "char";
    persistence "char";
    by_row boolean;
    change text;
    part regclass;
    stands boolean;
begin
    if watched is null or route is null or coalesce(cardinality(events), 0) = 0 then
        raise exception 'attach needs a table, a route and at least one event'
            using errcode = 'null_value_not_allowed',
                hint = 'Like pgreact.attach(''public.job_queue'', ''dispatch'', ''{insert}'').';
    end if;
    if known is null then
        raise exception 'no route "%" in pgreact.route', route
            using errcode = 'undefined_object',
                hint = 'Insert it there first, or name it in pgreact.toml and run "pgreact apply".';
    end if;
    select c.relkind, c.relpersistence,
        -- A statement trigger sees only statements that name its own table: rows that arrive through a
        -- parent, or in a partition, need a row trigger, which PostgreSQL clones to every partition.
        c.relkind = 'p' or exists (select from pg_inherits i where i.inhrelid = c.oid)
    into kind, persistence, by_row
    from pg_class c
    where c.oid = watched;
    if kind is null or kind not in ('r', 'p') or persistence = 't' then
        raise exception '% is not a permanent table', watched
            using errcode = 'wrong_object_type',
                hint = 'Attach to ordinary and partitioned tables; for a view, attach to the tables below it.';
    end if;
    by_row := by_row or condition is not null;

    foreach change in array events loop
        if change is null or change not in ('insert', 'update', 'delete', 'truncate') then
            raise exception 'no event "%"', change
                using errcode = 'invalid_parameter_value',
                    hint = 'Events are insert, update, delete and truncate.';
        end if;
        if change = 'truncate' and condition is not null then
            raise exception 'a truncate has no rows, so it takes no condition'
                using errcode = 'invalid_parameter_value',
                    hint = 'Attach truncate in a call of its own.';
        end if;
        -- Whoever attaches the same again should not wait for a lock, nor make writers wait.
        stands := change <> 'truncate' and exists (
            select
            from pg_trigger t
            join pgreact.watched w on w.relation = t.tgrelid
            where t.tgrelid = attach.watched
                and t.tgname = format('pgreact_%s_%s', known, change)
                and t.tgfoid = 'pgreact.signal_v1'::regproc
                and t.tgenabled in ('O', 'A')
                and (t.tgtype & 1 = 1) = by_row
                and w.route_id = known
                and w.event = change
                and w.condition is not distinct from attach.condition
        );
        if not stands then
            for part in
                select t.relid from pg_partition_tree(watched) t where change = 'truncate' and kind = 'p'
                union
                select watched
            loop
                execute format(
                    'create or replace trigger %I after %s on %s %s for each %s %s execute function pgreact.signal_v1(%L)',
                    format('pgreact_%s_%s', known, change), change, part,
                    case when by_row or change = 'truncate' then ''
                        when change = 'delete' then 'referencing old table as changed'
                        else 'referencing new table as changed' end,
                    case when by_row and change <> 'truncate' then 'row' else 'statement' end,
                    -- the line break ends a comment in the condition
                    case when condition is null then '' else 'when (' || condition || E'\n)' end,
                    known);
            end loop;
        end if;
        insert into pgreact.watched (route_id, relation, event, condition)
        values (known, watched, change, condition)
        on conflict (route_id, relation, event) do update set condition = excluded.condition;
    end loop;
end
$$;
comment on function pgreact.attach(regclass, text, text[], text)
    is 'makes these changes of a table signal a route; again changes nothing';
revoke all on function pgreact.attach(regclass, text, text[], text) from public;
