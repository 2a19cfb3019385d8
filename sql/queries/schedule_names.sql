-- Names similar to a wrong one, no more than can be compared; of many, those around it in the alphabet.
select n.name
from (
    (select s.name from pgreact.schedule s where s.name >= left(%(name)s, 3) order by s.name limit 2000)
    union all
    (select s.name from pgreact.schedule s where s.name < left(%(name)s, 3) order by s.name desc limit 2000)
) n
order by left(n.name, 3) <> left(%(name)s, 3), abs(length(n.name) - length(%(name)s)), n.name
limit 2000
