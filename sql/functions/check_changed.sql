create or replace function pgreact.check_changed(events text[], changed text[]) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if cardinality(changed) = 0 or changed is not null and 'update' <> all (events) then
        raise exception '"changed" names columns, one of which an update must change: it needs a column, and the event update'
            using errcode = 'invalid_parameter_value',
                hint = 'Like events => ''{insert,update}'', changed => ''{status}''.';
    end if;
end
$$;
comment on function pgreact.check_changed(text[], text[]) is 'refuses "changed" without a column, and without the event update';
revoke all on function pgreact.check_changed(text[], text[]) from public;
