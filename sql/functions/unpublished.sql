-- A claim marks the jobs of bundles as published, which spares another statement for each. The leader calls this for those that it
-- could not publish, before its next claim; a new leader calls it without arguments, for the jobs of the last claim that no worker has
-- started. The next claim returns them one by one. If a message of them was sent all the same, its jobs start once only.
create or replace function pgreact.unpublished(claim_ids uuid[] default null) returns void
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
as $$
update pgreact.in_progress p
set published_at = null
from (
    select n.id
    from pgreact.in_progress n
    cross join pgreact.queue_state s
    where case
            when unpublished.claim_ids is null then n.claim_number = s.claim_number
            else n.claim_number >= s.oldest_claim and n.claim_id = any (unpublished.claim_ids)
        end
        and n.started_at is null
        and n.published_at = n.claimed_at
    for no key update of n skip locked
) f
where p.id = f.id
$$;
comment on function pgreact.unpublished(uuid[]) is 'lets the next claim publish these jobs of bundles, whose message was not sent, or those of the last claim';
revoke all on function pgreact.unpublished(uuid[]) from public;
