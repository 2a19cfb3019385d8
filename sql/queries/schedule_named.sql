select s.*
from pgreact.schedule s
where s.name = any (%(names)s)
order by s.name
