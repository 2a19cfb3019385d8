-- Some lanes with their jobs. A count of waiting jobs above counted_to means more.
select d.lane, d.ready + d.delayed + d.blocked as waiting, d.counted_to, d.in_progress
from pgreact.lane_depths(%(counted)s) d
where d.lane = any (%(lanes)s)
