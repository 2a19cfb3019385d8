-- Why the last publish of a route failed, as the last leader wrote it.
select f.route_id, f.error
from pgreact.flight f
where f.error is not null
