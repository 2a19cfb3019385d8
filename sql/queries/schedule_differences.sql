-- Schedules that differ from the file's entries, and those that the file no longer has (named is null). By indexes: the table may
-- have far more schedules than the file.
with f as materialized (
    select f.name, f.entry
    from jsonb_to_recordset(%(entries)s) as f (name text, entry jsonb)
)
select f.name as named, s.*
from f
left join pgreact.schedule s on s.name = f.name
where s.id is null or s.origin <> 'config' or s.entry is distinct from f.entry
union all
select null, s.*
from pgreact.schedule s
where s.origin = 'config' and not exists (select from f where f.name = s.name)
order by id
