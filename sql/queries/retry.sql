-- As text, so no driver has to know a type.
select pgreact.retry(cast(cast(%(job)s as text) as bigint))
