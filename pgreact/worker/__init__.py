"""Run a route's task in its flight, and a job under its lease: what a Celery worker does around a task.

A job's message goes through these modules: ``strategy`` accepts it under the name of its task, ``request``
checks its headers, ``guard`` starts the run by ``jobs``, calls the task and settles the attempt.
``lease_renewer`` is a thread beside it, and ``request`` settles what a dead child cannot. A route's message
goes from ``guard`` to ``single_flight``. ``setup`` puts all of it into a Celery application.

A bundle, one message of many jobs, goes from ``strategy`` by ``bundle_message`` and ``bundle_request`` to
``bundle_task``, which runs each job by the tracer and the guard of its own task, in a ``bundle_loop``.
``bundle_watch`` is a thread beside it, ``bundle_settlements`` go to PostgreSQL by the lease renewer, and
``bundle_events`` and ``bundle_commands`` show Celery each job.

The events in the worker's log (logger ``pgreact.worker``). A failure that lasts is logged once for each kind,
and its recovery once.

============================ ======= =========================================================================
event                        level   when
============================ ======= =========================================================================
job.start_failed             warning PostgreSQL cannot be asked for the start: the task does not run, the
                                     daemon publishes again after the lease
job.start_recovered          info    jobs start again
message.dropped              info    a job's message runs nothing: another one runs or ran the attempt, it
                                     expired, or the job was cancelled
message.misrouted            error   a message is of a job of another database; it is requeued
message.requeue_failed       warning the broker refuses to take it
lease.renewal_failed         warning leases could not be renewed, or the rows of some are locked; tried again
lease.renewed                info    all leases are renewed again
lease.renewer_failed         warning the thread that renews leases met a bug, or cannot be started
lease.renewer_recovered      info    it works again
settlement.delayed           warning a settlement cannot be sent; it is sent as soon as possible
settlement.sent              info    a delayed settlement is sent
settlement.ignored           warning the attempt had ended before its settlement came; the job may run again
settlement.failed            warning the process ended before a settlement was sent, or no settlement can be
                                     made; the lease ends the attempt as lost
shutdown.delayed             info    the process sends delayed settlements before it ends
bundle.split                 warning the jobs of a task need messages of their own in this worker: each is
                                     sent again alone; info: another run of the message, or another
                                     transaction, holds one of its jobs: the others go back to the queue;
                                     debug: so they do, as a job lasts
bundle.unreadable            error   the text of a bundle cannot be read: after their leases the jobs come one
                                     by one
bundle.failed                error   a bug, or an error outside the body of a job
flight.dropped               info    a route's message runs nothing: one runs and one waits already
flight.waiting               debug   a route's message waits for the run of another
flight.start_failed          warning the locks cannot be taken: the task does not run, the daemon publishes
                                     again
flight.start_recovered       info    flights start again
flight.wait_failed           warning the wait for another run was interrupted; it goes on
flight.wait_recovered        info    the wait goes on
flight.lock_lost             warning the session of a run's lock broke: another may have run meanwhile
flight.notify_failed         warning the end of a run cannot be notified; the daemon sees it by the lock
task.unrunnable              warning a task is an ``async def`` or a generator; as a job it is invalid
============================ ======= =========================================================================
"""
