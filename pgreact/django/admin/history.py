"""The history: settled attempts, the last jobs first."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from pgreact.django import models
from pgreact.django.admin import filters
from pgreact.django.admin.base import number, when
from pgreact.django.admin.jobs import CallAdmin
from pgreact.django.admin.keyset import Key
from pgreact.quantities import format_duration


class SettledJobAdmin(CallAdmin):
    """Settled attempts."""

    # the primary key of each partition: the time alone has no index
    key = Key("-id", "-settled_at")
    key_index = False
    across = False
    list_display = ("id", "task", "lane", "attempt", "outcome", "ran", "settled", "error_line")
    list_filter = (filters.Day, filters.AttemptOutcome, filters.Lane)
    shown = ("id", "task", "task_id", "lane", "key", "enqueued_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return all columns: an attempt has no arguments."""
        return super().get_queryset(request).defer(None)

    def ranged(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Search within the chosen day."""
        return filters.of_day(rows, request.GET.get("day"))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return the last attempt of a job: its page shows all."""
        job = number(object_id)
        if job is None:
            return None
        return self.get_queryset(request).filter(pk=job).order_by("-settled_at").first()

    @admin.display(description="settled")
    def settled(self, row: models.SettledJob) -> str:
        """Return when an attempt was settled."""
        return when(row.settled_at)

    @admin.display(description="ran for")
    def ran(self, row: models.SettledJob) -> str:
        """Return how long a worker ran the attempt."""
        if row.started_at is None:
            return "-"
        seconds = (row.settled_at - row.started_at).total_seconds()
        return format_duration(round(seconds, 3) if seconds < 10 else round(seconds))
