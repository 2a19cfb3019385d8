select pgreact.signal(cast(%(route)s as text))
