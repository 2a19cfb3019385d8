"""Lanes: their limits, edited in the list, how full they are, pause and resume."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from pgreact.django import conf, models
from pgreact.django.admin.base import PgreactAdmin, permitted
from pgreact.django.admin.keyset import Key
from pgreact.django.session import acting, reading
from pgreact.postgres.change import rows
from pgreact.postgres.queries import query
from pgreact.quantities import format_count, format_rate, parse_limit, parse_rate
from pgreact.queue.settings import LANE_NAME_RULE

COUNTED = 1000  # waiting jobs of a lane that the list counts at most


class LimitField(forms.CharField):
    """Jobs in progress at most; empty: no limit."""

    widget = forms.TextInput(attrs={"size": 6})

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "required": False})

    def clean(self, value: Any) -> Any:
        """Return the limit."""
        text = str(super().clean(value)).strip()
        if text == "0":
            return 0  # SQL and the pages of pgreact may have written it
        return _read(parse_limit, text or None)


class RateField(LimitField):
    """Jobs a second, or text like 100/m; empty: no limit."""

    def prepare_value(self, value: Any) -> Any:
        """Return a rate as text."""
        return format_rate(value) if isinstance(value, float) else value

    def clean(self, value: Any) -> Any:
        """Return jobs a second."""
        text = str(forms.CharField.clean(self, value)).strip()
        return _read(parse_rate, float(text) if text.replace(".", "", 1).isdecimal() else text or None)

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Return whether the rate is another one."""
        try:
            return bool(self.clean(data) != initial)
        except ValidationError:
            return True


class TasksField(forms.CharField):
    """Names of tasks, one a line; empty: any task."""

    widget = forms.Textarea(attrs={"rows": 4})

    def prepare_value(self, value: Any) -> Any:
        """Return a line for each task."""
        return "\n".join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> Any:
        """Return the names, or ``None``."""
        return [line.strip() for line in super().clean(value).splitlines() if line.strip()] or None

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Return whether the names are others."""
        return bool(self.clean(data) != initial)


def _read(parse: Any, value: Any) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise ValidationError(str(error)) from None


class LaneForm(forms.ModelForm):  # type: ignore[type-arg]
    """A lane."""

    max_in_progress = LimitField(
        help_text="Jobs of the lane in progress at most; empty: no limit of its own."
    )
    rate = RateField(help_text="Like 5/s, 100/m or 5000/h; empty: no limit.")
    tasks = TasksField(required=False, help_text="The only tasks the lane takes, one a line; empty: any.")

    class Meta:
        """The columns that users set."""

        model = models.Lane
        fields = (
            *("name", "paused", "max_in_progress", "rate", "burst", "weight", "max_unstarted", "max_lost"),
            *("bundle", "tasks"),
        )
        help_texts = {  # noqa: RUF012
            "burst": "Jobs that may be claimed at once after a pause, if there is a rate.",
            "weight": "Share of the free places relative to other lanes, 1 to 1000.",
            "max_unstarted": "Jobs in progress at most that no worker has started.",
            "bundle": "Short jobs that share a message at most; empty: 100; 1: each job has its own.",
            "max_lost": "How often a job is repeated after its worker died.",
        }

    def clean_name(self) -> str:
        """Refuse what no Celery queue could be called."""
        name = str(self.cleaned_data["name"])
        if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in name):
            raise ValidationError(LANE_NAME_RULE)
        return name


class LaneLine(forms.ModelForm):  # type: ignore[type-arg]
    """The limits of a lane in a line of the list."""

    max_in_progress = LimitField()
    rate = RateField()

    class Meta:
        """The columns that the list edits."""

        model = models.Lane
        fields = ("max_in_progress", "rate", "weight")


class LaneAdmin(PgreactAdmin[models.Lane]):
    """Lanes."""

    form = LaneForm
    key = Key("name")
    list_display = ("name", "state", "waiting", "in_progress", "max_in_progress", "rate", "weight", "origin")
    list_editable = ("max_in_progress", "rate", "weight")
    list_display_links = ("name",)
    actions = ("pause_lanes", "resume_lanes")
    search_help_text = "a part of the name"

    def get_changelist_form(
        self, request: HttpRequest, **kwargs: Any
    ) -> "type[forms.ModelForm[models.Lane]]":
        """Return the form of a line of the list."""
        return LaneLine

    def search(self, term: str) -> Q:
        """Return the condition: a part of the name."""
        return Q(name__icontains=term)

    def get_readonly_fields(self, request: HttpRequest, obj: models.Lane | None = None) -> list[str]:
        """Keep the name of a lane, and its pause from users who may not pause."""
        fixed = ["name"] if obj is not None else []
        return fixed if self.has_pause_permission(request) else [*fixed, "paused"]

    def prepare(self, rows_: QuerySet[Any]) -> None:
        """Count the jobs of the lanes of a page, each up to a bound."""
        names = [lane.pk for lane in rows_]
        found = rows(reading(), query("lanes_used"), {"lanes": names, "counted": COUNTED})
        counts = {row["lane"]: row for row in found}
        for lane in rows_:
            lane.counts = counts[lane.pk]

    @admin.display(description="state")
    def state(self, lane: models.Lane) -> str:
        """Return whether a lane is paused."""
        return format_html('<span class="pgreact-bad">{}</span>', "paused") if lane.paused else "open"

    @admin.display(description="waiting")
    def waiting(self, lane: Any) -> str:
        """Return how many jobs wait in a lane."""
        return format_count(lane.counts["waiting"], lane.counts["counted_to"])

    @admin.display(description="in progress")
    def in_progress(self, lane: Any) -> str:
        """Return how many jobs of a lane are in progress."""
        return str(lane.counts["in_progress"])

    def save_model(self, request: HttpRequest, obj: models.Lane, form: Any, change: bool) -> None:
        """Write what was changed, with the user as the actor of pgreact's event log."""
        with acting(request.user.get_username()):
            if change:
                obj.save(update_fields=[name for name in form.changed_data if name in form.fields])
            else:
                obj.save(force_insert=True, using=conf.alias())

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Protect lanes that jobs, schedules or outbox triggers use."""
        shown, counts, lacking, protected = super().get_deleted_objects(objs, request)
        for lane in objs:
            [use] = rows(reading(), query("queue_lane_use"), {"lane": lane.pk, "replanned": []})
            used = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in use.items() if value)
            if used or lane.pk == "default":
                protected.append(f"lane {lane.pk} ({used or 'pgreact needs it'})")
        return shown, counts, lacking, protected

    def delete_model(self, request: HttpRequest, obj: models.Lane) -> None:
        """Delete a lane, with the user as the actor of pgreact's event log."""
        with acting(request.user.get_username()):
            obj.delete()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[models.Lane]) -> None:
        """Delete lanes, with the user as the actor of pgreact's event log."""
        with acting(request.user.get_username()):
            queryset.delete()

    @admin.action(description="Pause selected lanes", permissions=["pause"])
    def pause_lanes(self, request: HttpRequest, queryset: QuerySet[models.Lane]) -> None:
        """Pause lanes: jobs in progress go on, and no others are claimed."""
        self._switch(request, queryset, paused=True)

    @admin.action(description="Resume selected lanes", permissions=["pause"])
    def resume_lanes(self, request: HttpRequest, queryset: QuerySet[models.Lane]) -> None:
        """Resume lanes."""
        self._switch(request, queryset, paused=False)

    def _switch(self, request: HttpRequest, queryset: QuerySet[models.Lane], *, paused: bool) -> None:
        lanes = [lane for lane in self.chosen(request, queryset) if lane.paused != paused]
        with acting(request.user.get_username()):
            for lane in lanes:
                lane.paused = paused
                lane.save(update_fields=["paused"])
        done = "Paused" if paused else "Resumed"
        self.log_changes(request, lanes, f"{done}.")
        count = "1 lane" if len(lanes) == 1 else f"{len(lanes)} lanes"
        self.message_user(request, f"{done} {count}.", messages.SUCCESS if lanes else messages.WARNING)

    def has_pause_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may pause and resume lanes."""
        return permitted(self, request, "pause_lane")
