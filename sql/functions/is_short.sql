-- Whether jobs of a task may be bundled: they are short, as measured. A query has this expression in place of the call; a SET clause
-- would prevent that, and is not needed: see clock_now.
create or replace function pgreact.is_short(task pgreact.task) returns boolean
    language sql
    immutable
return task.run_s <= 0.01 and not task.alone;
comment on function pgreact.is_short(pgreact.task) is 'whether jobs of a task are short enough to share a message, and nothing forbids it';
revoke all on function pgreact.is_short(pgreact.task) from public;
