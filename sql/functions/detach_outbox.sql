-- Detaches a table from a task: the trigger unwatch of pgreact.outbox drops the table's triggers.
create or replace function pgreact.detach(
    watched regclass,
    events text[] default '{insert,update,delete,truncate}',
    enqueue text default null
) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete from pgreact.outbox o
    where o.relation = detach.watched and o.event = any (detach.events) and o.task = detach.enqueue;
    if not found then
        raise exception '% does not enqueue "%"', watched, enqueue
            using errcode = 'undefined_object',
                hint = coalesce('It enqueues ' || (select string_agg(distinct o.task, ', ') from pgreact.outbox o
                                                   where o.relation = detach.watched) || '.',
                                'See pgreact.outbox.');
    end if;
end
$$;
comment on function pgreact.detach(regclass, text[], text) is 'detaches a table from a task: its changes no longer enqueue it';
revoke all on function pgreact.detach(regclass, text[], text) from public;
