-- What is sent is locked first. The daemon may not lock rows by itself; pgreact.hold_schedules does it as the owner.
select h.id, h.task, h.args::text as args, h.kwargs::text as kwargs, h.options::text as options, h.expires
from pgreact.hold_schedules($1, $2) h
