-- The rights, among these, that a role lacks: kind is schema, function, table or columns (any column of the table).
select w.object, w.privilege
from jsonb_to_recordset(%(wanted)s) w (kind text, object text, privilege text)
where not case w.kind
    when 'schema' then has_schema_privilege(%(role)s, w.object, w.privilege)
    when 'function' then has_function_privilege(%(role)s, w.object, w.privilege)
    when 'table' then has_table_privilege(%(role)s, w.object, w.privilege)
    else has_any_column_privilege(%(role)s, w.object, w.privilege)
end
order by w.object, w.privilege
