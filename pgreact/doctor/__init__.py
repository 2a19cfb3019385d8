"""``pgreact doctor``: checks of a whole installation, each with a verdict and a remedy.

The modules ``settings``, ``connection``, ``wakeup``, ``storage``, ``celery``, ``clock``, ``queue`` and
``timetable`` have the checks of one area each. ``facts`` reads what they look at, ``workers`` asks the
workers, and ``examination`` runs the checks.
"""

from pgreact.doctor.examination import examine
from pgreact.doctor.result import Result, Verdict

__all__ = ["Result", "Verdict", "examine"]
