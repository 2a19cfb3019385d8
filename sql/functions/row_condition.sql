-- The row's part of a trigger's WHEN: the user's condition, and whether one of the columns in "changed" did. Columns are compared
-- as they are stored: that calls no operator that a user made, and works for every type.
create or replace function pgreact.row_condition(
    watched regclass,
    change text,
    condition text,
    changed text[]
) returns text
    language plpgsql
    stable
    set search_path = pg_catalog, pg_temp
as $$
declare
    unknown text;
    former text := (select string_agg('old.' || quote_ident(c), ', ') from unnest(changed) c);
    latter text := (select string_agg('new.' || quote_ident(c), ', ') from unnest(changed) c);
begin
    select coalesce(quote_ident(c), 'null')
    into unknown
    from unnest(changed) c
    where not exists (
        select
        from pg_attribute a
        where a.attrelid = watched and a.attname = c and a.attnum > 0 and not a.attisdropped
    )
    limit 1;
    if unknown is not null then
        raise exception '% has no column %, which "changed" names', watched, unknown
            using errcode = 'undefined_column',
                hint = 'It has ' || (select string_agg(quote_ident(a.attname), ', ' order by a.attnum)
                                     from pg_attribute a
                                     where a.attrelid = watched and a.attnum > 0 and not a.attisdropped) || '.';
    end if;
    return nullif(concat_ws(
        ' and ',
        -- the line break ends a comment in the condition
        '(' || condition || E'\n)',
        case when change = 'update' then
            'pg_catalog.record_image_ne(row(' || former || '), row(' || latter || '))'
        end
    ), '');
end
$$;
comment on function pgreact.row_condition(regclass, text, text, text[])
    is 'the part of a trigger''s WHEN about the row; null: none';
revoke all on function pgreact.row_condition(regclass, text, text, text[]) from public;
