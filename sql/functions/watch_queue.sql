-- The queue is a route like any other: what changes here wakes its dispatch. Always: jobs that an outbox writes for rows
-- that logical replication applies are written in the session that applies them.
do $$
begin
    perform pgreact.attach('pgreact.queue', 'pgreact.queue', '{insert}', always => true);
    perform pgreact.attach('pgreact.queue', 'pgreact.queue', '{update}', 'new.state = ''ready'' and old.state <> ''ready''', true);
    perform pgreact.attach('pgreact.in_progress', 'pgreact.queue', '{delete}', always => true);
    perform pgreact.attach('pgreact.lane', 'pgreact.queue', '{insert,update}', always => true);
    perform pgreact.attach('pgreact.queue_setting', 'pgreact.queue', '{update}', always => true);
end
$$;
