-- without the built-in queue, which has no flights
select name, id from pgreact.route where id > 0
