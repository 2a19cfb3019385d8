"""The queue: jobs, lanes and the outbox: settings, plan, commands, the Python API, and claims."""
