-- What a worker has to set before each of its statements, in the same message, since a pooler may hand the session to
-- another client after it: only where the defaults of the server, the database or the role are not what it needs. Each
-- statement must see what others committed before it, may write, and ends by the worker's own bound.
select concat_ws(
    ';',
    case
        when current_setting('default_transaction_isolation') <> 'read committed'
            or current_setting('default_transaction_read_only')::boolean
            then 'set transaction isolation level read committed, read write'
    end,
    (
        select 'select ' || string_agg(format('set_config(%L, ''0'', true)', s.name), ', ')
        from pg_settings s
        where s.name in ('statement_timeout', 'transaction_timeout') and s.reset_val <> '0'
    )
)
