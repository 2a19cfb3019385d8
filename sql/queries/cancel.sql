-- As text, so no driver has to know a type.
select pgreact.cancel(cast(cast(%(job)s as text) as bigint))
