-- Puts a job of a bundle that has not run back into the queue, as it was: no attempt is spent. The caller has locked its row.
--
-- A job of a bundle gets no other message under the same claim_id: it would run beside the others, and the lane count one place for both.
-- alone: it is to have a message of its own next time.
create or replace function pgreact.return_unrun(job pgreact.in_progress, alone boolean) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete from pgreact.in_progress p where p.id = job.id;
    job.attempt := job.attempt - 1;  -- the claim counts it again
    perform pgreact.requeue(job, job.run_at, null);
    if alone then
        update pgreact.queue q set alone = true where q.id = job.id;
    end if;
end
$$;
comment on function pgreact.return_unrun(pgreact.in_progress, boolean) is 'puts a job of a bundle that has not run back into the queue, as it was';
revoke all on function pgreact.return_unrun(pgreact.in_progress, boolean) from public;
