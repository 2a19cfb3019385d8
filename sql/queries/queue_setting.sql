select max_in_progress, extract(epoch from lease)::float8 as lease, extract(epoch from keep)::float8 as keep
from pgreact.queue_setting
