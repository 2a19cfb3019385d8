-- Add rows to pgreact.event_log. $1: a JSON array of objects with event, subject and details; $2: the actor.
select pgreact.log_event(e.event, e.subject, e.details, $2) from jsonb_to_recordset($1::jsonb) as e (event text, subject text, details jsonb)
