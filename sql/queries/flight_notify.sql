select pg_notify('pgreact', %(payload)s)
