-- Attaches the queue's own tables to its route, whose action is to claim jobs. Always: an outbox also writes jobs in the session
-- that applies rows of logical replication.
do $$
begin
    perform pgreact.attach('pgreact.queue', 'pgreact.queue', '{insert}', always => true);
    perform pgreact.attach('pgreact.queue', 'pgreact.queue', '{update}', 'new.state = ''ready'' and old.state <> ''ready''', true);
    perform pgreact.attach('pgreact.in_progress', 'pgreact.queue', '{delete}', always => true);
    perform pgreact.attach('pgreact.lane', 'pgreact.queue', '{insert,update}', always => true);
    perform pgreact.attach('pgreact.queue_setting', 'pgreact.queue', '{update}', always => true);
end
$$;
