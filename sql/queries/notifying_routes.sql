-- None yet counts as one: whoever makes the first route should find a daemon that hears of it. The queue is built in,
-- and polled where nobody hears.
select count(*) = 0 or bool_or(gate <> 'closed') from pgreact.route where id > 0
