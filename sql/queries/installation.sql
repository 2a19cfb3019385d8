-- The application that owns the database, if it has a name.
select application from pgreact.installation
