-- The application that owns the database; no row: none does.
select application from pgreact.installation
