-- The application that the database belongs to, if one has said its name.
select application from pgreact.installation
