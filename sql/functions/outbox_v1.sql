-- Runs in the writer's transaction and must not fail it, whatever changed of lane, key or columns since the table was attached.
-- Its arguments: task, lane, and the result of outbox_key. Another meaning of them gets another number.
--
-- It tries to read the key three times:
-- 1. with the columns of the arguments: as they were when the table was attached
-- 2. with the columns that the catalogue shows now
-- 3. with all of those as text
--
-- It runs with the rights of pgreact's owner, since a writer has no rights in pgreact. So it calls nothing that a user can have
-- written: the table's owner may give a key column any type at any time, and that type a cast to JSON. A value becomes JSON only
-- if its type, as the row is written, is the one in the arguments, and that is one of json_types() or a domain of one. The type
-- is asked of the value: the catalogue may show an old snapshot the former type. All other values become text by concat, which
-- calls the type's output function, and only a superuser can write one.
create or replace function pgreact.outbox_v1() returns trigger
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    -- the text of a value is part of the job's key, which keeps a row's jobs in order: it is the same in all sessions
    set timezone = 'UTC'
    set datestyle = 'ISO'
    set intervalstyle = 'postgres'
    set bytea_output = 'hex'
    set extra_float_digits = 1
    set lc_monetary = 'C'
    set quote_all_identifiers = off
as $$
declare
    named text := format('%I.%I', tg_table_schema, tg_table_name);
    columns text[] := tg_argv[2:];
    known constant oid[] := pgreact.json_types();
    type text;
    field text;
    opening text;
    checks text;
    list text;
    former_list text;
    ordered jsonb;
    former jsonb;
    key jsonb;
    old_key jsonb;
    kwargs jsonb;
    job_key text;
begin
    if tg_level = 'ROW' then
        -- the rows of a partition are named as the partitioned table's
        if pg_partition_root(tg_relid) <> tg_relid then
            select format('%I.%I', n.nspname, c.relname) into named
            from pg_partition_ancestors(tg_relid) with ordinality a (relation, step)
            join pg_trigger t on t.tgrelid = a.relation and t.tgname = tg_name
            join pg_class c on c.oid = a.relation
            join pg_namespace n on n.oid = c.relnamespace
            order by a.step desc
            limit 1;
        end if;
        for attempt in 1..3 loop
            checks := 'true';
            list := '';
            former_list := '';
            begin
                for n in 1..coalesce(cardinality(columns), 0) by 2 loop
                    -- raises if the column is gone: ($1).x would then be x($1), and call a function
                    perform has_column_privilege(tg_relid, columns[n], 'select');
                    field := '$1).' || quote_ident(columns[n]) || ')';
                    type := columns[n + 1];
                    if type = 'text' then
                        opening := ', concat((';
                    else
                        opening := ', ((';
                        checks := checks || ' and pg_typeof((' || field || ' = ''' || type || '''';
                        if type::oid <> all (known) then
                            perform from pg_type t where t.oid = type::oid and t.typbasetype = any (known);
                            checks := case when found then checks else 'false' end;
                        end if;
                    end if;
                    list := list || opening || field;
                    if tg_op = 'UPDATE' then
                        former_list := former_list || opening || '$2).' || quote_ident(columns[n]) || ')';
                    end if;
                end loop;
                exit when list = '';
                -- only the key: a wide row is expensive to unpack
                if tg_op = 'UPDATE' then
                    execute 'select jsonb_build_array(' || substr(list, 3) || '), jsonb_build_array(' || substr(former_list, 3)
                            || ') where ' || checks
                        into ordered, former
                        using new, old;
                else
                    execute 'select jsonb_build_array(' || substr(list, 3) || ') where ' || checks
                        into ordered
                        using case tg_op when 'INSERT' then new else old end;
                end if;
                exit when ordered is not null;
            exception
                when undefined_column then
                    null;  -- it was renamed
            end;
            columns := case
                when attempt = 1 then pgreact.outbox_key(tg_relid)
                else (select array_agg(case when n % 2 = 0 then 'text' else c end order by n)
                      from unnest(columns) with ordinality u (c, n))
            end;
        end loop;
        for n in 0..coalesce(jsonb_array_length(ordered), 0) - 1 loop
            key := coalesce(key, '{}') || jsonb_build_object(columns[2 * n + 1], ordered -> n);
            if former <> ordered then
                old_key := coalesce(old_key, '{}') || jsonb_build_object(columns[2 * n + 1], former -> n);
            end if;
        end loop;
    end if;
    kwargs := jsonb_build_object('table', named, 'operation', lower(tg_op), 'key', key);
    if old_key is not null then
        kwargs := kwargs || jsonb_build_object('old_key', old_key);
    end if;
    job_key := named || coalesce(':' || ordered::text, '');
    if octet_length(job_key) > 1000 then  -- what an index takes is limited
        job_key := named || ':' || encode(sha256(convert_to(job_key, 'UTF8')), 'hex');
    end if;
    insert into pgreact.queue (lane, task, kwargs, key, expires)
    select coalesce(nullif(tg_argv[1], ''), t.queue), tg_argv[0], kwargs, job_key, pgreact.clock_now() + t.expires
    from (select tg_argv[0] as name) n
    left join pgreact.task t on t.name = n.name;
    return null;
end
$$;
comment on function pgreact.outbox_v1() is 'enqueues a job for the changed row; its arguments are task, lane and primary key';
revoke all on function pgreact.outbox_v1() from public;
