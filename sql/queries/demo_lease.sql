update pgreact.queue_setting set lease = make_interval(secs => %(seconds)s)
