-- the built-in queue is nobody's flight
select name, id from pgreact.route where id > 0
