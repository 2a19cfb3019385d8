-- Why a job does not run: see pgreact.why_job.
select pgreact.why_job(%(job)s)
