-- Histograms of waits and runs since the installation, by lane.
select pgreact.readable(t.lane) as lane, pgreact.buckets() as bounds, pgreact.sum_counts(t.waits) as waits, sum(t.wait_s) as wait_s,
    pgreact.sum_counts(t.runs) as runs, sum(t.run_s) as run_s
from pgreact.tally_total t
group by t.lane
order by sum(t.jobs) desc
