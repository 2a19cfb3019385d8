-- Whether writers of some route notify. True without a route, too: the first one should find a daemon that gets its
-- notifications. The queue's built-in route is polled where LISTEN delivers nothing.
select count(*) = 0 or bool_or(gate <> 'closed') from pgreact.route where id > 0
