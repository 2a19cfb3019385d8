-- Called after the job in front is gone. It waits for nobody: where another transaction holds the first job that waits, the
-- key is written down, and the next claims look at it. Two transactions that take away neighbours of a key cannot miss each
-- other: each tries to lock the first job that it sees, whatever its state.
create or replace function pgreact.unblock_next(key text, claim_number bigint default null) returns boolean
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    first bigint;
    state text;
begin
    select f.id into first from pgreact.queue f where f.key = unblock_next.key order by f.id limit 1;
    if not found then
        return true;
    end if;
    select q.state into state from pgreact.queue q where q.id = first for update skip locked;
    if not found then
        if claim_number is not null then
            insert into pgreact.contested_key (key, claim_number) values (unblock_next.key, unblock_next.claim_number);
        end if;
        return false;
    end if;
    if state = 'blocked' then
        update pgreact.queue q set state = 'ready' where q.id = first;
    end if;
    return true;
end
$$;
comment on function pgreact.unblock_next(text, bigint)
    is 'the first waiting job of a key may be claimed; false: another transaction holds it, and with a claim_number, claims see to it';
revoke all on function pgreact.unblock_next(text, bigint) from public;
