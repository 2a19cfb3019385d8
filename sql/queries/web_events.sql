-- Events, the latest first: below an id (before), of a kind (the noun of the event, or the whole), of a subject or an actor that
-- contains a text. The table has 10,000 rows at most.
select l.id, l.at, l.event, pgreact.readable(l.subject) as subject, pgreact.readable(l.actor) as actor,
    pgreact.readable(l.details::text) as details
from pgreact.event_log l
where (%(before)s::bigint is null or l.id < %(before)s)
    and (%(kind)s::text is null or l.event = %(kind)s or starts_with(l.event, %(kind)s || '.'))
    and (%(text)s::text is null or strpos(lower(l.subject), lower(%(text)s)) > 0 or strpos(lower(l.actor), lower(%(text)s)) > 0)
order by l.id desc
limit %(limit)s
