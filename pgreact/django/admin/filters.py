"""Filters whose choices cost nothing that grows with the table."""

import datetime
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import BooleanField, Case, F, Func, Q, QuerySet, TextField, Value, When
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils import timezone

from pgreact.django import models
from pgreact.django.admin.redacted import redaction
from pgreact.django.session import reading
from pgreact.queue.dead_groups import dead_groups

CHOICES = 100  # of a filter
_CLASS = "^[A-Za-z_][A-Za-z_0-9.]*(?=:|\n|$)"


class Choice(admin.SimpleListFilter):
    """A column with one of a few values."""

    column: ClassVar[str]
    values: ClassVar[tuple[str, ...]] = ()

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the values, and the one that is chosen."""
        found = [*self.values]
        if (chosen := self.value()) and chosen not in found:
            found.append(chosen)
        return [(value, value.replace("_", " ")) for value in found]

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Filter."""
        chosen = (self.value() or "").replace("\0", "")
        return rows.filter(**{self.column: chosen}) if chosen else rows


class State(Choice):
    """By the state of a waiting job."""

    title, parameter_name, column = "state", "state", "state"
    values = ("ready", "delayed", "blocked")


class Outcome(Choice):
    """By the outcome of a dead job."""

    title, parameter_name, column = "outcome", "outcome", "outcome"
    values = ("failed", "lost", "expired", "revoked", "rejected", "invalid", "unstarted")


class AttemptOutcome(Choice):
    """By the outcome of an attempt."""

    title, parameter_name, column = "outcome", "outcome", "outcome"

    values = ("done", *Outcome.values, "cancelled")


class Lane(Choice):
    """By lane: the first ones by name, and the one that is chosen."""

    title, parameter_name, column = "lane", "lane", "lane"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the lanes."""
        names = models.Lane.objects.order_by("name").values_list("name", flat=True)[:CHOICES]
        found = [*names]
        if (chosen := self.value()) and chosen not in found:
            found.append(chosen)
        return [(name, name) for name in found]


class Day(admin.SimpleListFilter):
    """By the day on which an attempt was settled, which one partition has."""

    title, parameter_name = "settled", "day"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the last days."""
        today = timezone.now().date()
        names = {0: "today", 1: "yesterday"}
        days = [(number, today - datetime.timedelta(days=number)) for number in range(8)]
        return [(day.isoformat(), names.get(number, day.isoformat())) for number, day in days]

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Filter by a day in UTC, as the partitions are."""
        return of_day(rows, self.value())


def of_day(rows: QuerySet[Any], day: str | None) -> QuerySet[Any]:
    """Return the attempts settled on a day in UTC; all if the text is no day."""
    try:
        begin = datetime.datetime.fromisoformat(day or "").replace(tzinfo=datetime.UTC)
        if not timezone.is_aware(timezone.now()):
            begin = timezone.make_naive(begin)
        end = begin + datetime.timedelta(days=1)
    except (ValueError, OverflowError):
        return rows
    return rows.filter(settled_at__gte=begin, settled_at__lt=end)


class _Like(Func):
    """``like`` with a pattern of PostgreSQL's own."""

    template = "%(expressions)s"
    arg_joiner = " like "
    output_field = BooleanField()
    conditional = True


class ErrorPattern(admin.SimpleListFilter):
    """By the error's pattern, with numbers and quoted values left out: the groups of the newest dead jobs."""

    title, parameter_name = "error", "pattern"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the largest groups with their jobs."""
        found = dead_groups(reading(), redaction().tasks)
        groups = [(group.pattern, f"{group.pattern[:80]} ({group.jobs})") for group in found.groups[:20]]
        chosen = self.value()
        if chosen and chosen not in dict(groups):
            groups.append((chosen, chosen[:80]))
        return groups

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Filter by the pattern that a user sees: of a hidden error the exception's class."""
        chosen = (self.value() or "").replace("\0", "")
        if not chosen:
            return rows
        hidden = Q()
        for pattern in redaction().tasks:
            hidden |= Q(_Like(F("task"), Value(pattern)))
        error: Any = F("error")
        if hidden:
            named: Any = Func(F("error"), Value(_CLASS), function="substring", output_field=TextField())
            error = Case(When(hidden, then=named), default=error)
        shown = Coalesce(error, F("outcome"), output_field=TextField())
        pattern_of: Any = Func(shown, function="pgreact.error_pattern", output_field=TextField())
        return rows.alias(error_pattern=pattern_of).filter(error_pattern=chosen)
