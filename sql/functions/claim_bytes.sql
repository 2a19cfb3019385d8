create or replace function pgreact.claim_bytes() returns bigint
    language plpgsql
    immutable
    set search_path = pg_catalog, pg_temp
as $$
begin
    return 8388608;
end
$$;
comment on function pgreact.claim_bytes() is 'bytes of arguments that the leader holds at a time';
revoke all on function pgreact.claim_bytes() from public;
