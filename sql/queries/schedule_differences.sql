-- Schedules that differ from the file's entries, and those that the file no longer has (named is null).
select f.name as named, s.*
from jsonb_to_recordset(%(entries)s) as f (name text, entry jsonb)
full join pgreact.schedule s on s.name = f.name
where s.id is null
    or f.name is null and s.origin = 'config'
    or f.name is not null and (s.origin <> 'config' or s.entry is distinct from f.entry)
order by s.id
