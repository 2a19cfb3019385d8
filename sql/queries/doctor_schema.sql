-- Whether pgreact's schema is there.
select to_regclass('pgreact.migration') is not null as applied
