select id as route_id, pgreact.skips(id) as skips from unnest($1::integer[]) as id
