-- Names that may have been meant, and not more than one can compare.
select s.name
from pgreact.schedule s
order by left(s.name, 3) <> left(%(name)s, 3), abs(length(s.name) - length(%(name)s)), s.name
limit 2000
