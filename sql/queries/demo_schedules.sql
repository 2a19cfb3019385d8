-- A schedule for "pgreact demo --web" that fails, since its lane is gone.
insert into pgreact.lane (name) values ('legacy');
insert into pgreact.schedule (name, task, every, lane, retention)
values ('export to the old shop', 'shop.send_email', '20 s', 'legacy', '1 day');
delete from pgreact.lane where name = 'legacy';
