-- A database in SQL_ASCII stores any bytes, and some encodings have characters that Unicode lacks. One such text would fail the
-- whole statement that returns it to a client in UTF-8.
create or replace function pgreact.readable(value text) returns text
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if getdatabaseencoding() <> 'UTF8' then
        perform convert_to(value, 'UTF8');
    end if;
    return value;
exception
    when character_not_in_repertoire or untranslatable_character then
        return encode(convert_to(value, 'SQL_ASCII'), 'escape');
end
$$;
comment on function pgreact.readable(text) is 'the text, or its bytes with escapes if it cannot be sent as UTF-8';
revoke all on function pgreact.readable(text) from public;
