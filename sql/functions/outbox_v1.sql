-- Runs in the writer's transaction and must not fail it, whatever became of lane, key or columns since it was attached.
-- Its arguments: task, lane, and what outbox_key says. Another meaning of them gets another number.
create or replace function pgreact.outbox_v1() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    -- a time in a key is written in one way, whoever writes the row
    set timezone = 'UTC'
    set datestyle = 'ISO'
as $$
declare
    named text := format('%I.%I', tg_table_schema, tg_table_name);
    columns text[] := tg_argv[2:];
    form text;
    list text;
    pairs text;
    former_pairs text;
    ordered jsonb;
    key jsonb;
    former jsonb;
    kwargs jsonb;
    job_key text;
begin
    if tg_level = 'ROW' then
        -- a partition's rows are the table's
        if (select c.relispartition from pg_class c where c.oid = tg_relid) then
            select format('%I.%I', n.nspname, c.relname) into named
            from pg_partition_ancestors(tg_relid) with ordinality a (relation, step)
            join pg_trigger t on t.tgrelid = a.relation and t.tgname = tg_name
            join pg_class c on c.oid = a.relation
            join pg_namespace n on n.oid = c.relnamespace
            order by a.step desc
            limit 1;
        end if;
        for round in 1..2 loop
            list := null;
            for n in 1..coalesce(cardinality(columns), 0) by 2 loop
                form := format(case columns[n + 1] when 'json' then '($1).%I' else 'format(''%%s'', ($1).%I)' end, columns[n]);
                list := concat_ws(', ', list, form);
                pairs := concat_ws(', ', case when n > 1 then pairs end, quote_literal(columns[n]), form);
            end loop;
            exit when list is null;
            begin
                -- only the key: a wide row is not to be unpacked
                if tg_op = 'UPDATE' then
                    execute format('select jsonb_build_array(%s), jsonb_build_object(%s), jsonb_build_object(%s)',
                            list, pairs, replace(pairs, '($1).', '($2).'))
                        into ordered, key, former
                        using new, old;
                else
                    execute format('select jsonb_build_array(%s), jsonb_build_object(%s)', list, pairs)
                        into ordered, key
                        using case tg_op when 'INSERT' then new else old end;
                end if;
                exit;
            exception
                when undefined_column then
                    -- it was renamed
                    columns := pgreact.outbox_key(tg_relid);
            end;
        end loop;
    end if;
    kwargs := jsonb_build_object('table', named, 'operation', lower(tg_op), 'key', key);
    if former <> key then
        kwargs := kwargs || jsonb_build_object('old_key', former);
    end if;
    job_key := named || coalesce(':' || ordered::text, '');
    if octet_length(job_key) > 1000 then  -- what an index takes is limited
        job_key := named || ':' || encode(sha256(convert_to(job_key, 'UTF8')), 'hex');
    end if;
    insert into pgreact.queue (lane, task, kwargs, key) values (tg_argv[1], tg_argv[0], kwargs, job_key);
    return null;
end
$$;
comment on function pgreact.outbox_v1() is 'enqueues a job for the row that changed; its arguments are task, lane and the primary key';
revoke all on function pgreact.outbox_v1() from public;
