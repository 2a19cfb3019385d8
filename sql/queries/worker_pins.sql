-- The statements that a worker prepends to each of its own, in the same message, since a pooler may hand the session to
-- another client after it. They are needed only where the defaults of server, database or role differ: a worker's statement
-- reads committed rows, may write, and has no timeout but the worker's own.
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
