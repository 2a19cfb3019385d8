-- A schedule for "pgreact demo --web" that follows the sun.
insert into pgreact.schedule (name, task, solar, timezone)
values ('shutters', 'shop.take_stock', 'sunset 48.86 2.35', 'Europe/Paris')
