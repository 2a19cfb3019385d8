-- Makes a trigger of pgreact stand on one table. Three cases:
-- - it stands there as it should, or is a clone of a parent's, which cannot be replaced: this takes no lock, so attaching again
--   neither waits nor makes writers wait
-- - it is missing, or differs: it is created or replaced
-- - it is enabled otherwise, here or on a partition: it is enabled as it should be
create or replace function pgreact.put_trigger(
    relation regclass,
    name text,
    event text,
    work text,
    action regproc,
    arguments text[],
    always boolean,
    condition text,
    same boolean
) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set quote_all_identifiers = off
as $$
declare
    amiss regclass;
begin
    if not exists (
        select
        from pg_trigger t
        where t.tgrelid = relation
            and t.tgname = name
            -- cloned from a parent's
            and (t.tgparentid <> 0
                or same and t.tgfoid = action and t.tgargs = pgreact.trigger_arguments(arguments))
    ) then
        begin
            execute format(
                'create or replace trigger %I after %s on %s for each %s %s execute function %s(%s)',
                name, event, relation, case when event = 'truncate' then 'statement' else 'row' end,
                'when (' || work || ')', action,
                (select string_agg(quote_literal(a), ', ' order by n) from unnest(arguments) with ordinality u (a, n)));
        exception
            when insufficient_privilege or duplicate_object then
                raise;
            when syntax_error_or_access_rule_violation or data_exception or feature_not_supported then
                if condition is null then
                    raise;
                end if;
                raise exception '%, condition %: %', relation, condition, sqlerrm
                    using errcode = sqlstate,
                        hint = 'Write it as the columns are named now: new.COLUMN, old.COLUMN.';
        end;
    end if;
    -- one by one: a parent that is enabled as it should be passes nothing on to its partitions
    for amiss in
        select t.tgrelid
        from pg_trigger t
        where t.tgname = name
            and t.tgenabled <> case when always then 'A' else 'O' end::"char"
            and t.tgrelid in (select relation union all select p.relid from pg_partition_tree(relation) p)
    loop
        execute format('alter table only %s enable %s trigger %I', amiss, case when always then 'always' end, name);
    end loop;
end
$$;
comment on function pgreact.put_trigger(regclass, text, text, text, regproc, text[], boolean, text, boolean)
    is 'makes a trigger of pgreact stand on one table; same: a trigger that stands there has the same condition';
revoke all on function pgreact.put_trigger(regclass, text, text, text, regproc, text[], boolean, text, boolean) from public;
