select name, id from pgreact.route
