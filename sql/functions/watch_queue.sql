-- The queue is a route like any other: what changes here wakes its dispatch.
do $$
begin
    perform pgreact.attach('pgreact.queue', 'pgreact.queue', '{insert}');
    perform pgreact.attach('pgreact.queue', 'pgreact.queue', '{update}', 'new.state = ''ready'' and old.state <> ''ready''');
    perform pgreact.attach('pgreact.in_progress', 'pgreact.queue', '{delete}');
    perform pgreact.attach('pgreact.lane', 'pgreact.queue', '{insert,update}');
    perform pgreact.attach('pgreact.queue_setting', 'pgreact.queue', '{update}');
end
$$;
