"""An application to import: entries in its configuration, and some that its modules add."""

import os
from typing import Any

from celery import Celery
from celery.schedules import crontab

app = Celery("import_app", broker=os.environ.get("BEAT_BROKER", "memory://"), set_as_current=False)
app.conf.update(
    timezone="Europe/Paris",
    task_send_sent_event=True,
    task_default_queue=os.environ.get("BEAT_QUEUE", "celery"),
    event_exchange=f"{os.environ.get('BEAT_QUEUE', 'celery')}.ev",  # separate from other tests' events
    beat_schedule={
        "tick": {"task": "proj.tick", "schedule": 1.0, "args": [1]},
        "report": {"task": "proj.report", "schedule": crontab(minute=0, hour=7)},
        "computed": {"task": "proj.report", "schedule": 60, "args": [print]},
    },
)


@app.on_after_finalize.connect
def add_more(sender: Celery, **_: Any) -> None:
    """Add an entry as a module does."""
    sender.add_periodic_task(3600, sender.signature("proj.later"), name="added later")
