-- The values of settings that a server, a database or a role has as defaults, for sessions of this database.
select s.name, s.value, r.rolname::text as role, d.datname::text as database
from (
    select split_part(c.setting, '=', 1) as name, substr(c.setting, strpos(c.setting, '=') + 1) as value, g.setrole, g.setdatabase
    from pg_db_role_setting g
    cross join lateral unnest(g.setconfig) c (setting)
    where g.setdatabase in (0, (select d.oid from pg_database d where d.datname = current_database()))
    union all
    select s.name, s.setting, 0, 0
    from pg_settings s
    where s.source in ('configuration file', 'command line', 'environment variable')
) s
left join pg_roles r on r.oid = s.setrole
left join pg_database d on d.oid = s.setdatabase
where s.name = any (%(names)s)
order by 1, 3, 4
