select name, max_in_progress, weight, rate, burst, paused, tasks, origin
from pgreact.lane
order by name
