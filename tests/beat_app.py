"""An application whose ``beat_schedule`` a test writes, as JSON."""

import json
import os
from datetime import datetime
from typing import Any

from celery import Celery
from celery.schedules import schedule


class Odd(schedule):
    """A schedule of a class unknown to pgreact."""

    def is_due(self, last_run_at: datetime) -> Any:
        """Return that it is never due."""
        return False, (last_run_at - last_run_at).total_seconds() + 3600


app = Celery("beat_app", broker=os.environ["BEAT_BROKER"], set_as_current=False)
app.conf.beat_schedule = json.loads(os.environ.get("BEAT_SCHEDULE", "{}"))
if os.environ.get("BEAT_ODD"):
    app.conf.beat_schedule["odd"] = {"task": "proj.odd", "schedule": Odd(60)}
app.conf.pgreact_delivery = os.environ.get("BEAT_DELIVERY", "direct")
