-- Gives a route another task. Its parameters are replaced by text.
begin
    update pgreact.route r set task = {task} where r.name = {route};
    if not found then
        raise exception 'no route "%" in pgreact.route', {route} using errcode = 'undefined_object';
    end if;
end
