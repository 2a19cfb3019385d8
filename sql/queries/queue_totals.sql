select s.max_in_progress, (select count(*) from pgreact.dead) as dead
from pgreact.queue_setting s
