-- The name of a schedule, and its times beyond Python's calendar, readable in any encoding of the database.
select
    case getdatabaseencoding()
        when 'SQL_ASCII' then regexp_replace(left(s.name, 200), '[^ -~]', '?', 'g')
        else left(s.name, 200)
    end as name,
    (
        select string_agg(format('%s is %s', v.key, v.value), ', ')
        from jsonb_each_text(jsonb_build_object(
            'at', s.at, 'anchor', s.anchor, 'start_at', s.start_at, 'end_at', s.end_at, 'created_at', s.created_at,
            'next_nominal_at', s.next_nominal_at, 'next_run_at', s.next_run_at, 'last_nominal_at', s.last_nominal_at
        )) v
        where v.value::timestamptz not between '0001-01-02 00:00Z' and '9999-12-30 23:59:59Z'
    ) as beyond
from pgreact.schedule s
where s.id = $1
