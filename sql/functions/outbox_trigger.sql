-- Two tasks may be attached to one table, and the name of a task may be longer than that of a trigger.
create or replace function pgreact.outbox_trigger(task text, event text) returns text
    language sql
    immutable strict parallel safe
    set search_path = pg_catalog, pg_temp
as $$
select format('pgreact_outbox_%s_%s', left(encode(sha256(convert_to(task, 'UTF8')), 'hex'), 12), event)
$$;
comment on function pgreact.outbox_trigger(text, text) is 'the name of the trigger that enqueues a task';
revoke all on function pgreact.outbox_trigger(text, text) from public;
