-- What runs here: PostgreSQL, the encoding, the number of migrations, and the version of the last leader.
select
    current_setting('server_version') as server,
    current_database()::text as database,
    pg_is_in_recovery() as replica,
    (select count(*) from pgreact.migration) as migrations,
    (
        select l.details ->> 'version' from pgreact.event_log l where l.event = 'leader.elected' order by l.id desc limit 1
    ) as leader
