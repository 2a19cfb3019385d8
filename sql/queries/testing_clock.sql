-- Whose clock it is, and whether this role can replace it.
select
    current_database() as database,
    current_user::text as role,
    pg_get_userbyid(p.proowner)::text as owner,
    pg_has_role(p.proowner, 'usage') and has_schema_privilege(p.pronamespace, 'create') as owned
from pg_proc p
where p.oid = 'pgreact.clock_now()'::regprocedure
