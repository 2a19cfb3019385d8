"""Behaviours of django-celery-beat's admin that a user sees; the documentation has a row for each."""

import datetime
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from pgreact.demo.postgres import EmbeddedPostgres
from tests.django_admin import act, client, site, text, told
from tests.queue_steps import Queue

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "django-celery-beat-differences.md"
ADD = "/admin/pgreact/schedule/add/"
PREVIEW = "/admin/pgreact/schedule/preview/"
LIST = "/admin/pgreact/schedule/"
FORM = {
    "name": "report",
    "task": "orders.tasks.send_receipt",
    "enabled": "on",
    "way": "every",
    "every": "1h",
    "timezone": "UTC",
    "args": "[]",
    "kwargs": "{}",
    "options": "{}",
    "overlap": "on",
    "misfire": "coalesce",
    "delivery": "queue",
    "grace": "1m",
    "jitter": "0s",
    "catch_up": "100",
    "priority": "0",
    "max_attempts": "1",
}
CRON = {"way": "cron", "every": ""}


class Site:
    """The admin with a database that has no schedule."""

    def __init__(self, queue: Queue, opened: Client) -> None:
        self.queue = queue
        self.client = opened

    def errors(self, **given: str) -> dict[str, str]:
        """Send the form; return the errors by field."""
        page = self.client.post(ADD, FORM | given)
        if page.status_code == 302:
            return {}
        return {name: found[0] for name, found in page.context["adminform"].form.errors.items()}

    def add(self, **given: str) -> int:
        """Add a schedule; return its id."""
        assert self.errors(**given) == {}
        found: int = self.queue.value("select max(id) from pgreact.schedule")
        return found

    def edit(self, schedule: int, **given: str) -> None:
        """Send the form of a schedule."""
        answer = self.client.post(f"{LIST}{schedule}/change/", FORM | given)
        assert answer.status_code == 302, answer.context["adminform"].form.errors

    def column(self, expression: str) -> Any:
        """Return an expression of the only schedule."""
        return self.queue.value(f"select {expression} from pgreact.schedule")

    def names(self, query: str) -> list[str]:
        """Return the names that the list shows."""
        return [row.name for row in self.client.get(f"{LIST}{query}").context["cl"].result_list]


Behaviour = Callable[[Site], None]
BEHAVIOURS: dict[str, Behaviour] = {}


def behaviour(name: str) -> Callable[[Behaviour], Behaviour]:
    """Name a behaviour as the documentation does."""

    def named(function: Behaviour) -> Behaviour:
        BEHAVIOURS[name] = function
        return function

    return named


@behaviour("Name is unique, of 200 characters at most")
def _(site: Site) -> None:
    site.add()
    assert site.errors() == {"name": 'a schedule "report" exists'}
    assert [*site.errors(name="x" * 201)] == ["name"]


@behaviour("Task is required")
def _(site: Site) -> None:
    assert [*site.errors(task="")] == ["task"]


@behaviour("Task is picked from the registered ones, without Celery's own")
def _(site: Site) -> None:
    page = site.client.get(ADD).content.decode()
    assert '<option value="orders.tasks.send_receipt"' in page
    assert "celery.backend_cleanup" not in page


@behaviour("Another task can be typed")
def _(site: Site) -> None:
    site.add(task="elsewhere.task")
    assert site.column("task") == "elsewhere.task"


@behaviour("One schedule type must be set")
def _(site: Site) -> None:
    assert [*site.errors(every="")] == ["every"]


@behaviour("Only one schedule type may be set")
def _(site: Site) -> None:
    assert [*site.errors(cron="0 * * * *", solar="sunset 1 2")] == ["cron", "solar"]


@behaviour("Interval: days, hours, minutes, seconds, microseconds")
def _(site: Site) -> None:
    for every in ("2d", "3h", "4m", "5s", "0.25s", "250ms"):
        site.add(name=every, every=every)
    assert [*site.errors(every="1ms")] == ["every"]
    assert [*site.errors(every="0s")] == ["every"]


@behaviour("Crontab: five fields, checked")
def _(site: Site) -> None:
    site.add(**CRON, cron="*/5 8-18 * jan-mar mon-fri")
    assert "minute 60" in site.errors(name="b", **CRON, cron="60 * * * *")["cron"]


@behaviour("Crontab: day of month and day of week must both match")
def _(site: Site) -> None:
    given = {**CRON, "cron": "0 0 1 * 0", "start_at": "2029-12-31T12:00"}
    assert "Sun 2030-01-06" in text(site.client.post(PREVIEW, FORM | given))  # cron: either
    assert "Sun 2030-09-01" in text(site.client.post(PREVIEW, FORM | given | {"cron_and": "on"}))
    assert "Sun 2030-01-06" not in text(site.client.post(PREVIEW, FORM | given | {"cron_and": "on"}))


@behaviour("Crontab: a time zone of its own")
def _(site: Site) -> None:
    given = {**CRON, "cron": "0 7 * * *", "timezone": "Asia/Tokyo"}
    assert "07:00:00 +0900" in text(site.client.post(PREVIEW, FORM | given))
    assert [*site.errors(timezone="Nowhere/City")] == ["timezone"]


@behaviour("Crontab: a translation in words")
def _(site: Site) -> None:
    site.add(**CRON, cron="30 2 * * 1-5")
    assert "at 02:30 on weekdays, UTC" in text(site.client.get(LIST))


@behaviour("Solar: event, latitude, longitude, checked")
def _(site: Site) -> None:
    site.add(way="solar", every="", solar="dusk_civil 48.86 2.35")
    assert "latitude" in site.errors(name="b", way="solar", every="", solar="sunset 91 0")["solar"]
    assert "longitude" in site.errors(name="b", way="solar", every="", solar="sunset 0 181")["solar"]


@behaviour("Clocked: once, at a time")
def _(site: Site) -> None:
    given = {"way": "at", "every": "", "at": "2030-01-01T09:00", "timezone": "Europe/Paris"}
    site.add(**given)
    assert site.column("at") == datetime.datetime(2030, 1, 1, 8, tzinfo=datetime.UTC)
    assert text(site.client.post(PREVIEW, FORM | given)).count("09:00:00 +0100") == 1


@behaviour("One-off: a single run")
def _(site: Site) -> None:
    site.add(max_runs="1")
    assert text(site.client.post(PREVIEW, FORM | {"max_runs": "1"})).count("+0000") == 1


@behaviour("Start time")
def _(site: Site) -> None:
    site.add(start_at="2031-02-03T04:00")
    assert "2031-02-03 04:00:00" in text(
        site.client.post(PREVIEW, FORM | {**CRON, "cron": "0 4 * * *", "start_at": "2031-02-03T03:00"})
    )


@behaviour("Expires at a time")
def _(site: Site) -> None:
    site.add(options='{"expires": "2031-01-01T00:00:00+00:00"}', end_at="2031-01-01")
    assert site.column("options ->> 'expires'") == "2031-01-01T00:00:00+00:00"
    assert [*site.errors(name="b", start_at="2031-01-02", end_at="2031-01-01")] == ["end_at"]


@behaviour("Expires after seconds")
def _(site: Site) -> None:
    site.add(expires="90s")
    assert site.column("expires") == datetime.timedelta(seconds=90)


@behaviour("Arguments are JSON, checked")
def _(site: Site) -> None:
    assert "is not JSON" in site.errors(args="[1,")["args"]
    assert "is not JSON" in site.errors(kwargs="{'a': 1}")["kwargs"]
    assert [*site.errors(args='"text"')] == ["args"]
    site.add(args='[1, "é"]', kwargs='{"a": {"b": null}}')
    assert site.column("args") == [1, "é"]
    assert site.column("kwargs") == {"a": {"b": None}}


@behaviour("Queue, exchange, routing key, priority, headers")
def _(site: Site) -> None:
    site.add(
        options='{"queue": "mail", "priority": 5, "headers": {"x": 1}, "exchange": "e", "routing_key": "r"}'
    )
    assert [*site.errors(name="p", options='{"priority": 256}')] == ["options"]


@behaviour("Description")
def _(site: Site) -> None:
    site.add(description="For the boss.")
    assert site.names("?q=the+boss") == ["report"]


@behaviour("Enable, disable and toggle selected tasks")
def _(site: Site) -> None:
    ids = [site.add(name="a"), site.add(name="b")]
    act(site.client, "schedule", "disable_schedules", ids[:1])
    enabled = "select array_agg(enabled order by name) from pgreact.schedule"
    assert site.queue.value(enabled) == [False, True]
    act(site.client, "schedule", "toggle_schedules", ids)
    assert site.queue.value(enabled) == [True, False]
    act(site.client, "schedule", "enable_schedules", ids)
    assert site.queue.value(enabled) == [True, True]


@behaviour("Disabling resets the last run")
def _(site: Site) -> None:
    schedule = site.add()
    site.queue.run("update pgreact.schedule set last_run_at = '2026-01-01Z'")
    act(site.client, "schedule", "disable_schedules", [schedule])
    assert site.column("last_run_at is not null")


@behaviour("Run selected tasks now")
def _(site: Site) -> None:
    on, off = site.add(name="on"), site.add(name="off")
    act(site.client, "schedule", "disable_schedules", [off])
    assert told(act(site.client, "schedule", "run_schedules", [on, off])) == [
        "Running 1 schedule now.",
        "1 schedule not run, since disabled: enable first.",
    ]
    assert site.queue.value("select array_agg(name) from pgreact.schedule where next_run_at <= now()") == [
        "on"
    ]


@behaviour("Running an unknown task is refused")
def _(site: Site) -> None:
    page = site.client.post(ADD, FORM | {"task": "no.such"}, follow=True)
    assert "No task no.such is registered" in " ".join(told(page))


@behaviour("Search by name and task")
def _(site: Site) -> None:
    site.add(name="Nightly")
    site.add(name="other", task="billing.invoice")
    assert site.names("?q=nightly") == ["Nightly"]
    assert site.names("?q=billing") == ["other"]


@behaviour("Filters: enabled, one-off, task, start time, last run")
def _(site: Site) -> None:
    act(site.client, "schedule", "disable_schedules", [site.add(name="a")])
    site.add(name="b", way="at", every="", at="2030-01-01")
    assert site.names("?enabled=0") == ["a"]
    assert site.names("?kind=at") == ["b"]
    assert site.names("?task=orders.tasks.send_receipt") == ["a", "b"]


@behaviour("The list: name, enabled, schedule, last run")
def _(site: Site) -> None:
    site.add()
    site.queue.run("update pgreact.schedule set last_run_at = now() - interval '2 h 1 min'")
    shown = text(site.client.get(LIST))
    assert "every hour" in shown
    assert "2h ago" in shown


@behaviour("Last run and number of runs are shown, and not edited")
def _(site: Site) -> None:
    schedule = site.add()
    site.queue.run("update pgreact.schedule set run_count = 7")
    assert "7 runs so far" in text(site.client.get(f"{LIST}{schedule}/change/"))
    site.edit(schedule, run_count="0", last_run_at="2020-01-01", grace="2m")
    assert site.column("run_count") == 7


@behaviour("Delete selected tasks, after a question")
def _(site: Site) -> None:
    schedule = site.add()
    assert "Are you sure" in text(act(site.client, "schedule", "delete_selected", [schedule]))
    act(site.client, "schedule", "delete_selected", [schedule], post="yes")
    assert site.column("count(*)") == 0


@behaviour("A change of the schedule takes effect without a restart")
def _(site: Site) -> None:
    schedule = site.add()
    site.queue.run("update pgreact.schedule set state = 'planned', next_run_at = now() + interval '1 h'")
    before = site.column("revision")
    site.edit(schedule, every="5m")
    assert site.column("state") == "new"  # the leader plans it at once
    assert site.column("revision") > before


@behaviour("Changes past the admin need update_changed()")
def _(site: Site) -> None:
    from pgreact.django.models import Schedule

    site.add()
    before = site.column("revision")
    Schedule.objects.filter(name="report").update(every=datetime.timedelta(minutes=1))
    assert (site.column("state"), site.column("revision") > before) == ("new", True)


@behaviour("A schedule is shared by several tasks")
def _(site: Site) -> None:
    first = site.add(name="a")
    site.add(name="b")
    site.edit(first, name="a", every="2h")
    hours = "select array_agg(extract(epoch from every)::int / 3600 order by name) from pgreact.schedule"
    assert site.queue.value(hours) == [2, 1]


@behaviour("A warning without the database scheduler")
def _(site: Site) -> None:
    schedule = site.add()
    assert "no process fires schedules" in text(site.client.get(f"{LIST}{schedule}/change/"))


@pytest.fixture(scope="module")
def shared(postgres: EmbeddedPostgres, migrated: str) -> Iterator[Queue]:
    with site(postgres, migrated) as found:
        yield found


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_behaviour_is_as_documented(shared: Queue, name: str) -> None:
    shared.run("delete from pgreact.schedule")
    BEHAVIOURS[name](Site(shared, client()))


def test_each_documented_behaviour_is_tested() -> None:
    rows = re.findall(r"^\| ([^|]+?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [row for row in rows if row not in {"django-celery-beat", "---"}] == [*BEHAVIOURS]
