"""Filters of the list of schedules."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from pgreact.django.admin.filters import CHOICES, Choice
from pgreact.django.admin.tasks import registered_tasks
from pgreact.django.session import reading
from pgreact.timetable.settings import WAYS


class Enabled(admin.SimpleListFilter):
    """Enabled or not."""

    title, parameter_name = "enabled", "enabled"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return yes and no."""
        return [("1", "yes"), ("0", "no")]

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Filter."""
        chosen = self.value()
        return rows.filter(enabled=chosen == "1") if chosen in {"0", "1"} else rows


class Kind(admin.SimpleListFilter):
    """By the way in which a schedule recurs."""

    title, parameter_name = "kind", "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the ways."""
        return [(way, way) for way in WAYS]

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Filter."""
        chosen = self.value()
        return rows.filter(**{f"{chosen}__isnull": False}) if chosen in WAYS else rows


class ScheduleState(admin.SimpleListFilter):
    """By state, with the schedules that are overdue by more than a minute."""

    title, parameter_name = "state", "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the states."""
        return [(state, state) for state in ("planned", "overdue", "failed", "ended", "new")]

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Filter."""
        chosen = self.value()
        if chosen == "overdue":
            statement = "select pgreact.clock_now() - interval '1 min'"
            [[late]] = reading().execute(statement).fetchall()
            return rows.filter(state="planned", enabled=True, next_run_at__lt=late)
        return rows.filter(state=chosen) if chosen in {"planned", "failed", "ended", "new"} else rows


class Origin(Choice):
    """By what manages a schedule."""

    title, parameter_name, column = "origin", "origin", "origin"
    values = ("sql", "config", "app")


class Task(Choice):
    """By task: those that the application has registered or the leader knows."""

    title, parameter_name, column = "task", "task", "task"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the tasks."""
        found = [*registered_tasks()[:CHOICES]]
        if (chosen := self.value()) and chosen not in found:
            found.append(chosen)
        return [(name, name) for name in found]


def searched(term: str) -> Q:
    """Return the condition of a search: a part of the name, the task's name or the description."""
    return Q(name__icontains=term) | Q(task__icontains=term) | Q(description__icontains=term)
