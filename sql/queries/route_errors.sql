-- The error of each route whose last publish failed.
select f.route_id, f.error
from pgreact.flight f
where f.error is not null
