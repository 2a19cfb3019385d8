"""The pages, in the order of the navigation."""

from collections.abc import Sequence

from pgreact.web.page import Page
from pgreact.web.pages.cluster import CLUSTER
from pgreact.web.pages.dead import DEAD
from pgreact.web.pages.doctor import DOCTOR
from pgreact.web.pages.job import JOB
from pgreact.web.pages.jobs import JOBS
from pgreact.web.pages.lanes import LANES
from pgreact.web.pages.overview import OVERVIEW
from pgreact.web.pages.routes import ROUTES
from pgreact.web.pages.schedule import SCHEDULE
from pgreact.web.pages.schedules import SCHEDULES

PAGES: Sequence[Page] = (
    OVERVIEW,
    ROUTES,
    LANES,
    JOBS,
    JOB,
    DEAD,
    SCHEDULES,
    SCHEDULE,
    CLUSTER,
    DOCTOR,
)
