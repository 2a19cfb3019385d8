    if not applied ? {name} or {changed} then
        execute {script};
    end if;
