-- The ids of routes by name, without the queue's built-in route, which has no flights.
select name, id from pgreact.route where id > 0
