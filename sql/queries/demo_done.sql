select job_id, extract(epoch from started_at)::float8, extract(epoch from finished_at)::float8
from job_done
