create or replace function pgreact.check_calls(options jsonb, known text[]) returns text
    language sql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
select o.key
from jsonb_each(options) o
cross join lateral (
    select case jsonb_typeof(o.value) when 'array' then o.value else jsonb_build_array(o.value) end as items
) l
where o.key in ('link', 'link_error', 'chain', 'chord', 'stamped_headers')
    and o.value <> 'null'
    and (
        jsonb_typeof(o.value) = case o.key when 'chord' then 'array' when 'chain' then 'object' end
        or exists (
            select
            from jsonb_array_elements(l.items) i
            where case
                when o.key <> 'stamped_headers' then jsonb_typeof(i -> 'task') is distinct from 'string'
                else jsonb_typeof(i) <> 'string'
                    or not options ? (i #>> '{}')
                    or i #>> '{}' = any (known || '{countdown,eta,task_id}')
            end
        )
    )
limit 1
$$;
comment on function pgreact.check_calls(jsonb, text[]) is 'returns the first of link, link_error, chain, chord and stamped_headers whose value is invalid; null: none is';
revoke all on function pgreact.check_calls(jsonb, text[]) from public;
