-- Also prunes: every hundredth row deletes what is too old and too much, so no caller pays for a large delete.
create or replace function pgreact.log_event(event text, subject text, details jsonb default '{}', actor text default null)
    returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set lock_timeout = '500ms'
as $$
declare
    number bigint;
begin
    insert into pgreact.event_log (event, subject, actor, details)
    values (event, subject, coalesce(actor, nullif(current_setting('pgreact.actor', true), ''), session_user),
        coalesce(details, '{}'))
    returning id into number;
    if number % 100 = 0 then
        delete from pgreact.event_log l
        where l.id in (
            select o.id
            from pgreact.event_log o
            where o.id <= number - 10000 or o.at < now() - interval '90 days'
            order by o.id
            limit 1000
            for update skip locked
        );
    end if;
end
$$;
comment on function pgreact.log_event(text, text, jsonb, text)
    is 'adds a row to pgreact.event_log; the actor is setting pgreact.actor, else the database role';
revoke all on function pgreact.log_event(text, text, jsonb, text) from public;
