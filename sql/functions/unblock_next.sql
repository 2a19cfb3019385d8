-- Called after the job ahead is gone. It waits for no lock. Cases, by the first waiting job of the key:
--   none                        true
--   blocked, ready or delayed   locked here; a blocked one becomes ready. true
--   locked elsewhere            the key goes to contested_key, which the next claims check. false
-- Two transactions that remove neighbours of a key cannot miss each other: each tries to lock the first job that it sees,
-- whatever its state.
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
        update pgreact.queue q set state = 'ready', ready_at = pgreact.clock_now() where q.id = first;
    end if;
    return true;
end
$$;
comment on function pgreact.unblock_next(text, bigint)
    is 'makes the first waiting job of a key ready; false: another transaction holds it, and with a claim_number, claims try again';
revoke all on function pgreact.unblock_next(text, bigint) from public;
