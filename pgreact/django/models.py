# mypy: disable-error-code="var-annotated"
"""The tables of schema pgreact as unmanaged models, for the admin and for queries of the ORM.

Write schedules and lanes by :mod:`pgreact.django.admin` or SQL; call ``pgreact.cancel`` and ``pgreact.retry``
for jobs: rows of these tables depend on each other.
"""

from typing import Any, TypeVar

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.sql.compiler import SQLCompiler

from pgreact.django import conf

M = TypeVar("M", bound=models.Model)


class Manager(models.Manager[M]):
    """Reads the database that has pgreact's schema: no router is needed."""

    def get_queryset(self) -> models.QuerySet[M]:
        """Return the rows of that database, unless ``using`` names another."""
        found = super().get_queryset()
        return found.using(self._db or conf.alias())


class Moment(models.DateTimeField):  # type: ignore[type-arg]
    """A time that users set; one beyond Python's calendar reads as its nearest."""

    def select_format(self, _compiler: SQLCompiler, sql: str, params: Any) -> tuple[str, Any]:
        """Return the column as it is read."""
        bounded = f"greatest(least({sql}, '9999-12-30Z'), '0001-01-03Z')"
        return f"case when {sql} is not null then {bounded} end", [*params, *params]

    def deconstruct(self) -> Any:
        """Return a plain field for migrations."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.DateTimeField", args, kwargs


class Texts(ArrayField):  # type: ignore[type-arg]
    """An array of texts, which works without ``django.contrib.postgres`` among the installed apps."""

    def check(self, **kwargs: Any) -> list[Any]:
        """Leave out Django 6's demand for that app (postgres.E005), whose lookups nothing here uses."""
        return [found for found in super().check(**kwargs) if found.id != "postgres.E005"]

    def deconstruct(self) -> Any:
        """Return a plain field for migrations."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.contrib.postgres.fields.ArrayField", args, kwargs


class Schedule(models.Model):
    """A periodic schedule: a task and a rule of recurrence."""

    name = models.CharField(max_length=200, unique=True)
    task = models.CharField(max_length=255)
    args = models.JSONField(default=list)
    kwargs = models.JSONField(default=dict)
    every = models.DurationField(null=True)
    cron = models.TextField(null=True)
    cron_and = models.BooleanField(default=False)
    at = models.DateTimeField(null=True)
    solar = models.TextField(null=True)
    rrule = models.TextField(null=True)
    timezone = models.TextField(default="UTC")
    anchor = models.DateTimeField(null=True)
    enabled = models.BooleanField(default=True)
    start_at = models.DateTimeField(null=True)
    end_at = models.DateTimeField(null=True)
    max_runs = models.BigIntegerField(null=True)
    jitter = models.DurationField()
    misfire = models.TextField(default="coalesce")
    grace = models.DurationField()
    catch_up = models.IntegerField(default=100)
    overlap = models.BooleanField(default=True)
    delivery = models.TextField(default="queue")
    lane = models.TextField(null=True)
    priority = models.IntegerField(default=0)
    max_attempts = models.IntegerField(default=1)
    options = models.JSONField(default=dict)
    expires = models.DurationField(null=True)
    retention = models.DurationField(null=True)
    description = models.TextField(default="")
    origin = models.TextField(default="sql")
    entry = models.JSONField(null=True)
    created_at = models.DateTimeField()
    state = models.TextField(default="new")
    next_nominal_at = models.DateTimeField(null=True)
    next_run_at = models.DateTimeField(null=True)
    last_nominal_at = models.DateTimeField(null=True)
    last_run_at = models.DateTimeField(null=True)
    last_job = models.BigIntegerField(null=True)
    last_error = models.TextField(null=True)
    run_count = models.BigIntegerField(default=0)
    misfire_count = models.BigIntegerField(default=0)

    objects = Manager["Schedule"]()

    class Meta:
        """The table, and the permission to run a schedule now."""

        managed = False
        db_table = '"pgreact"."schedule"'
        permissions = (("run_schedule", "Can run schedule now"),)

    def __str__(self) -> str:
        return str(self.name)


class ScheduleHistory(models.Model):
    """An occurrence of a schedule whose ``retention`` is set."""

    pk = models.CompositePrimaryKey("schedule", "fired_at", "nominal_at")
    schedule = models.TextField()
    nominal_at = models.DateTimeField()
    fired_at = models.DateTimeField()
    outcome = models.TextField()
    job = models.BigIntegerField(null=True)
    task_id = models.UUIDField(null=True)
    error = models.TextField(null=True)

    objects = Manager["ScheduleHistory"]()

    class Meta:
        """The table."""

        managed = False
        db_table = '"pgreact"."schedule_history"'
        default_permissions = ("view",)
        verbose_name_plural = "schedule history"

    def __str__(self) -> str:
        return f"{self.schedule} at {self.nominal_at}"


class Lane(models.Model):
    """A named class of jobs, with its limits."""

    name = models.CharField(max_length=255, primary_key=True)
    max_in_progress = models.IntegerField(null=True, blank=True)
    max_unstarted = models.IntegerField(default=200, validators=[MinValueValidator(1)])
    max_lost = models.IntegerField(default=3, validators=[MinValueValidator(0)])
    weight = models.IntegerField(default=1, validators=[MinValueValidator(1), MaxValueValidator(1000)])
    rate = models.FloatField(null=True, blank=True)
    burst = models.IntegerField(default=1, validators=[MinValueValidator(1)])
    paused = models.BooleanField(default=False)
    bundle = models.IntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(1000)]
    )
    tasks = Texts(models.TextField(), null=True, blank=True)
    origin = models.TextField(default="sql", editable=False)

    objects = Manager["Lane"]()

    class Meta:
        """The table, and the permission to pause and resume a lane."""

        managed = False
        db_table = '"pgreact"."lane"'
        permissions = (("pause_lane", "Can pause and resume lane"),)

    def __str__(self) -> str:
        return str(self.name)


class _Call(models.Model):
    """The columns that a job has in each of its tables."""

    lane = models.TextField(null=True)
    task = models.TextField()
    args = models.JSONField()
    kwargs = models.JSONField()
    priority = models.IntegerField()
    key = models.TextField(null=True)
    attempt = models.IntegerField()
    max_attempts = models.IntegerField()
    max_lost = models.IntegerField(null=True)
    backoff = models.DurationField()
    options = models.JSONField()
    enqueued_at = models.DateTimeField()
    task_id = models.UUIDField()

    class Meta:
        """Not a table of its own."""

        abstract = True

    def __str__(self) -> str:
        return f"{self.pk}: {self.task}"


class _Claimable(_Call):
    """The columns of a job that is not dead."""

    run_at = Moment()
    expires = Moment(null=True)
    unique_key = models.TextField(null=True)
    unique_while = models.TextField()
    lost = models.IntegerField()
    ready_at = models.DateTimeField(null=True)

    class Meta:
        """Not a table of its own."""

        abstract = True


class Job(_Claimable):
    """A job that waits."""

    id = models.BigIntegerField(primary_key=True)
    state = models.TextField()
    error = models.TextField(null=True)

    objects = Manager["Job"]()

    class Meta:
        """The table, and what users may do with waiting jobs."""

        managed = False
        db_table = '"pgreact"."queue"'
        default_permissions = ("view",)
        permissions = (("cancel_job", "Can cancel job"), ("retry_job", "Can run delayed job now"))
        verbose_name = "waiting job"


class InProgress(_Claimable):
    """A job that was claimed and has not ended."""

    id = models.BigIntegerField(primary_key=True)
    claimed_at = models.DateTimeField()
    published_at = models.DateTimeField(null=True)
    publishes = models.IntegerField()
    started_at = models.DateTimeField(null=True)
    worker = models.TextField(null=True)
    lease_until = models.DateTimeField()

    objects = Manager["InProgress"]()

    class Meta:
        """The table, and the permission to cancel what is in progress."""

        managed = False
        db_table = '"pgreact"."in_progress"'
        default_permissions = ("view",)
        permissions = (("cancel_inprogress", "Can cancel job in progress"),)
        verbose_name = "job in progress"
        verbose_name_plural = "jobs in progress"


class DeadJob(_Call):
    """A job that ended without success and does not run again, unless it is retried."""

    id = models.BigIntegerField(primary_key=True)
    died_at = models.DateTimeField()
    outcome = models.TextField()
    error = models.TextField(null=True)

    objects = Manager["DeadJob"]()

    class Meta:
        """The table, and what users may do with dead jobs."""

        managed = False
        db_table = '"pgreact"."dead"'
        default_permissions = ("view",)
        permissions = (("retry_deadjob", "Can retry dead job"), ("discard_deadjob", "Can discard dead job"))


class SettledJob(models.Model):
    """A settled attempt, kept where ``[queue] retention`` is set. Attempts of one job share its id."""

    id = models.BigIntegerField(primary_key=True)
    lane = models.TextField(null=True)
    task = models.TextField()
    key = models.TextField(null=True)
    attempt = models.IntegerField()
    outcome = models.TextField()
    error = models.TextField(null=True)
    task_id = models.UUIDField(null=True)
    worker = models.TextField(null=True)
    enqueued_at = models.DateTimeField()
    run_at = Moment(null=True)
    ready_at = models.DateTimeField(null=True)
    claimed_at = models.DateTimeField(null=True)
    published_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    settled_at = models.DateTimeField()

    objects = Manager["SettledJob"]()

    class Meta:
        """The table."""

        managed = False
        db_table = '"pgreact"."history"'
        default_permissions = ("view",)
        verbose_name = "settled attempt"

    def __str__(self) -> str:
        return f"{self.pk}: {self.task}, attempt {self.attempt}"
