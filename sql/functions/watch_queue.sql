-- The queue is a route: these changes signal it. The triggers are enabled ALWAYS, since an outbox writes jobs in the session
-- that applies logical replication.
do $$
begin
    perform pgreact.attach('pgreact.queue', 'pgreact.queue', '{insert}', always => true);
    perform pgreact.attach('pgreact.queue', 'pgreact.queue', '{update}', 'new.state = ''ready'' and old.state <> ''ready''', true);
    perform pgreact.attach('pgreact.in_progress', 'pgreact.queue', '{delete}', always => true);
    perform pgreact.attach('pgreact.lane', 'pgreact.queue', '{insert,update}', always => true);
    perform pgreact.attach('pgreact.queue_setting', 'pgreact.queue', '{update}', always => true);
end
$$;
