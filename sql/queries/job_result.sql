-- State, times, errors and value of a job of django.tasks.
select pgreact.job_result(%(job)s, %(task_id)s::uuid)::text
