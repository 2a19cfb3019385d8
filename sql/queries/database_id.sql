select pgreact.database_id()
