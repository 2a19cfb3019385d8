-- Names similar to a wrong one, no more than can be compared.
select s.name
from pgreact.schedule s
order by left(s.name, 3) <> left(%(name)s, 3), abs(length(s.name) - length(%(name)s)), s.name
limit 2000
