-- The cost does not grow with the backlog: ready jobs count up to 10,000.
create or replace function pgreact.load(lane text default null) returns integer
    language plpgsql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
as $$
declare
    most constant integer := 10000;
    ready integer;
    busy integer;
begin
    if lane is null then
        select count(*) into ready from (select from pgreact.queue q where q.state = 'ready' limit most) r;
        select count(*) into busy from pgreact.in_progress p where p.claim_number >= (select s.oldest_claim from pgreact.queue_state s);
    else
        select count(*) into ready from (select from pgreact.queue q where q.state = 'ready' and q.lane = load.lane limit most) r;
        select count(*) into busy
        from pgreact.in_progress p
        where p.claim_number >= (select s.oldest_claim from pgreact.queue_state s) and p.lane = load.lane;
    end if;
    return ready + busy;
end
$$;
comment on function pgreact.load(text)
    is 'jobs that could use a worker now, ready and in progress, of a lane or of all: the signal to scale workers by; ready ones count up to 10,000';
revoke all on function pgreact.load(text) from public;
