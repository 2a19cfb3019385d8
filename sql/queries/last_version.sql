-- The version of the last leader.
select l.details ->> 'version' from pgreact.event_log l where l.event = 'leader.elected' order by l.id desc limit 1
