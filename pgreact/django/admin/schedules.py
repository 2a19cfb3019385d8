"""Schedules: a list in words, a form with the next runs, and actions on many."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from pgreact.django import models
from pgreact.django.admin import schedule_filters
from pgreact.django.admin.base import PgreactAdmin, permitted, when
from pgreact.django.admin.jobs import address, outcomes
from pgreact.django.admin.keyset import Key
from pgreact.django.admin.redacted import redaction
from pgreact.django.admin.schedule_form import ScheduleForm
from pgreact.django.admin.tasks import registered_tasks
from pgreact.django.session import acting, reading
from pgreact.errors import ConfigError
from pgreact.postgres.event_log import log
from pgreact.quantities import format_duration
from pgreact.queue.job_arguments import written
from pgreact.timetable import edit, views
from pgreact.timetable import form as columns
from pgreact.timetable.description import describe
from pgreact.timetable.occurrences import preview
from pgreact.timetable.plan import recurrence_text
from pgreact.timetable.recurrence import RecurrenceError
from pgreact.timetable.why import lines, why

_UNREAD = ("args", "kwargs", "options", "entry")
_NEXT = 10  # runs that the form shows
_PAST = 50  # past occurrences of a page
_FIRED = Key("-fired_at", "-nominal_at")  # many that were missed are fired at one instant
_MANAGED = {
    "config": 'The configuration manages this schedule: "pgreact apply" overwrites what you write here when '
    "its entry there changes, and adds it again if you delete it.",
    "app": "The application's beat_schedule manages this schedule: a change of its entry there overwrites "
    "what you write here.",
}
_WELL = ("ready", "delayed", "blocked", "claimed", "running", "done", "cancelled")
_WHEN = (
    "way",
    "every",
    "cron",
    "cron_and",
    "at",
    "solar",
    "rrule",
    "timezone",
    "anchor",
    "start_at",
    "end_at",
)
_LIMITS = ("max_runs", "jitter")
_HOW = (
    *("delivery", "lane", "priority", "max_attempts", "expires", "overlap", "misfire", "grace", "catch_up"),
    "retention",
)


class ScheduleAdmin(PgreactAdmin[models.Schedule]):
    """Schedules by name."""

    form = ScheduleForm
    key = Key("name")
    across = True
    list_display = ("name", "task", "recurs", "enabled_", "next_run", "last_run")
    list_filter = (
        schedule_filters.Enabled,
        schedule_filters.ScheduleState,
        schedule_filters.Kind,
        schedule_filters.Origin,
        schedule_filters.Task,
    )
    actions = ("enable_schedules", "disable_schedules", "toggle_schedules", "run_schedules")
    search_help_text = "a part of the name, the task or the description"
    change_form_template = "admin/pgreact/schedule_form.html"

    # ---- the list --------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[models.Schedule]:
        """Leave the arguments out."""
        return super().get_queryset(request).defer(*_UNREAD)

    def search(self, term: str) -> Q:
        """Return the condition of a search."""
        return schedule_filters.searched(term)

    def by_index(self, request: HttpRequest, term: str) -> bool:
        """Return that no search goes by an index alone."""
        return False

    def prepare(self, rows_: QuerySet[Any]) -> None:
        """Look up what became of the last jobs."""
        ids = [row.last_job for row in rows_ if row.last_job is not None]
        found = {each["id"]: each for each in outcomes(ids)}
        for row in rows_:
            row.last = found.get(row.last_job)

    @admin.display(description="recurs")
    def recurs(self, row: models.Schedule) -> str:
        """Return the recurrence in words; the rule itself is the tooltip."""
        columns_ = row.__dict__
        return format_html('<span title="{}">{}</span>', recurrence_text(columns_), describe(columns_))

    @admin.display(description="enabled", boolean=True)
    def enabled_(self, row: models.Schedule) -> bool:
        """Return whether a schedule fires."""
        return bool(row.enabled)

    @admin.display(description="next run")
    def next_run(self, row: models.Schedule) -> str:
        """Return when a schedule runs next, or why it does not."""
        if not row.enabled:
            return "-"
        if row.state == "failed":
            return format_html('<span class="pgreact-bad" title="{}">failed</span>', row.last_error or "")
        return when(row.next_run_at) if row.state == "planned" else str(row.state)

    @admin.display(description="last run")
    def last_run(self, row: Any) -> str:
        """Return when a schedule ran last, and what became of its job, with a link to it."""
        last = row.last
        if last is None:
            return when(row.last_run_at)
        return format_html(
            '{}, <a class="{}" href="{}">{}</a>',
            when(row.last_run_at),
            "" if last["outcome"] in _WELL else "pgreact-bad",
            address(self.admin_site.name, last),
            last["outcome"],
        )

    # ---- one schedule ----------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        """Add the preview and the past occurrences."""
        own = [
            path("preview/", self.admin_site.admin_view(self.preview_view), name="pgreact_schedule_preview"),
            path(
                "<path:object_id>/occurrences/",
                self.admin_site.admin_view(self.occurrences_view),
                name="pgreact_schedule_occurrences",
            ),
        ]
        return own + super().get_urls()

    def get_form(self, request: Any, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form, which writes no field of the model itself."""
        return super().get_form(request, obj, change, **{**kwargs, "fields": ("id",)})

    def get_fieldsets(self, request: HttpRequest, obj: models.Schedule | None = None) -> Any:
        """Return the fields of the form, or what a user who may only view sees."""
        if obj is not None and not self.has_change_permission(request, obj):
            when_ = tuple(name for name in _WHEN if name != "way")
            return [
                (None, {"fields": ("name", "task", "description", "enabled", "origin")}),
                ("When", {"fields": (*when_, *_LIMITS)}),
                ("Arguments", {"fields": ("shown_args", "shown_kwargs", "shown_options")}),
                ("How", {"fields": _HOW}),
            ]
        hidden = obj is not None and redaction().hides(obj.task)
        arguments = [] if hidden else [("Arguments", {"fields": columns.HIDEABLE})]
        return [
            (None, {"fields": ("name", "task", "description", "enabled")}),
            ("When", {"fields": (*_WHEN, *_LIMITS)}),
            *arguments,
            ("How", {"fields": _HOW, "classes": ("collapse",)}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: models.Schedule | None = None) -> Any:
        """Return none: the form has all fields that a user may edit."""
        if obj is not None and not self.has_change_permission(request, obj):
            return ("shown_args", "shown_kwargs", "shown_options")
        return ()

    def _shown(self, row: models.Schedule, section: str) -> str:
        value = redaction().arguments(row.task, section, getattr(row, section))
        return format_html("<pre>{}</pre>", written(value, indent=2))

    @admin.display(description="args")
    def shown_args(self, row: models.Schedule) -> str:
        """Return the positional arguments without what is hidden."""
        return self._shown(row, "args")

    @admin.display(description="kwargs")
    def shown_kwargs(self, row: models.Schedule) -> str:
        """Return the keyword arguments without what is hidden."""
        return self._shown(row, "kwargs")

    @admin.display(description="options")
    def shown_options(self, row: models.Schedule) -> str:
        """Return the options without what is hidden."""
        return self._shown(row, "options")

    def changeform_view(
        self, request: Any, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> Any:
        """Show or save a schedule; what the database refuses only when it is written is a message."""
        more = self._about(request, object_id) if object_id is not None else {}
        url = reverse(f"{self.admin_site.name}:pgreact_schedule_preview")
        more |= {"preview_url": url, "schedule_id": object_id or ""}
        try:
            return super().changeform_view(request, object_id, form_url, {**more, **(extra_context or {})})
        except ConfigError as error:
            if request.method != "POST":
                raise  # a redirect would lead here again
            self.message_user(request, f"Nothing was saved: {error}", messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def _about(self, request: HttpRequest, object_id: str) -> dict[str, Any]:
        """Return what the page of a schedule shows besides its columns."""
        row = self.get_object(request, object_id)
        if row is None:
            return {}
        session = reading()
        found, answer = views.schedule(session, row.name), why(session, row.name)
        if answer["last_job"] is not None:
            redaction().hide_errors(answer["last_job"])
        return {
            "recurs": describe(found["schedule"]),
            "why": list(lines(answer)),
            "runs": found["occurrences"],
            "runs_error": found["error"],
            "past": found["history"],
            "managed": _MANAGED.get(row.origin),
            "hides": redaction().hides(row.task),
        }

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """Return the next runs of a schedule that is being edited, or what is wrong with it."""
        given = request.POST.get("schedule_id")
        row = self.get_object(request, given) if given else None
        allowed = (
            self.has_add_permission(request) if row is None else self.has_change_permission(request, row)
        )
        if request.method != "POST" or not allowed:
            raise PermissionDenied
        data = request.POST.copy()
        for name in ("name", "task"):  # which may be typed last
            data[name] = data.get(name) or "new"
        form = self.get_form(request, row, change=row is not None)(data, instance=row)
        form.previews = True
        context: dict[str, Any] = {}
        if form.is_valid():
            [[now]] = reading().execute("select pgreact.clock_now()").fetchall()
            name = form.cleaned_data["name"]
            try:
                context["runs"] = preview(name, form.schedule, now, _NEXT, form.row)
                context["recurs"] = describe(form.schedule.model_dump())
            except RecurrenceError as error:
                context["runs_error"] = str(error)
        else:
            context["mistakes"] = [
                (
                    form.fields[name].label or name.replace("_", " ") if name in form.fields else "",
                    "; ".join(errors),
                )
                for name, errors in form.errors.items()
            ]
        return render(request, "admin/pgreact/next_runs.html", context)

    def occurrences_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show past occurrences of a schedule, a page at a time."""
        row = self.get_object(request, object_id)
        if row is None or not self.has_view_or_change_permission(request, row):
            raise PermissionDenied
        found = models.ScheduleHistory.objects.filter(schedule=row.name)
        before = _FIRED.read(models.ScheduleHistory, request.GET.get("before"))
        if before is not None:
            found = _FIRED.behind(found, before)
        past = list(found.order_by(*_FIRED.columns)[:_PAST])
        context = {
            **self.admin_site.each_context(request),
            "title": f"Occurrences of {row}",
            "opts": self.opts,
            "original": row,
            "past": [{**each.__dict__, "late": _late(each.fired_at - each.nominal_at)} for each in past],
            "before": _FIRED.token(_FIRED.of(past[-1])) if len(past) == _PAST else None,
            "media": self.media,
        }
        request.current_app = self.admin_site.name
        return render(request, "admin/pgreact/occurrences.html", context)

    def save_model(self, request: HttpRequest, obj: models.Schedule, form: Any, change: bool) -> None:
        """Write what was changed, with the user as the actor of pgreact's event log."""
        name = form.cleaned_data["name"]
        with acting(request.user.get_username()) as session:
            changed = form.write(session)
            if not change:
                log(session, "schedule.created", name)
            elif changed:
                log(session, "schedule.changed", name, columns=changed)
        obj.pk = models.Schedule.objects.values_list("pk", flat=True).get(name=name)
        obj.name = name
        known = registered_tasks()
        if known and form.schedule.task not in known:
            self.message_user(
                request,
                f"No task {form.schedule.task} is registered in this process's Celery application: its jobs "
                "fail unless a worker has it.",
                messages.WARNING,
            )

    def delete_model(self, request: HttpRequest, obj: models.Schedule) -> None:
        """Delete a schedule; jobs that are enqueued stay."""
        self._delete(request, [obj.name])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[models.Schedule]) -> None:
        """Delete schedules; jobs that are enqueued stay."""
        self._delete(request, list(queryset.values_list("name", flat=True)))

    def _delete(self, request: HttpRequest, names: Sequence[str]) -> None:
        with acting(request.user.get_username()) as session:
            edit.remove(session, names)
            for name in names[:20]:
                log(session, "schedule.deleted", name)

    # ---- actions ---------------------------------------------------------------------------------------

    @admin.action(description="Enable selected schedules", permissions=["change"])
    def enable_schedules(self, request: HttpRequest, queryset: QuerySet[models.Schedule]) -> None:
        """Enable schedules, and try those that failed again."""
        self._switch(request, {True: self.chosen(request, queryset)})

    @admin.action(description="Disable selected schedules", permissions=["change"])
    def disable_schedules(self, request: HttpRequest, queryset: QuerySet[models.Schedule]) -> None:
        """Disable schedules; jobs that are enqueued stay."""
        self._switch(request, {False: self.chosen(request, queryset)})

    @admin.action(description="Toggle selected schedules", permissions=["change"])
    def toggle_schedules(self, request: HttpRequest, queryset: QuerySet[models.Schedule]) -> None:
        """Enable the disabled ones, and disable the enabled ones."""
        found = self.chosen(request, queryset)
        off = [row for row in found if not row.enabled]
        self._switch(request, {True: off, False: [row for row in found if row.enabled]})

    @admin.action(description="Run selected schedules now", permissions=["run"])
    def run_schedules(self, request: HttpRequest, queryset: QuerySet[models.Schedule]) -> None:
        """Run enabled schedules once, now, beside their occurrences."""
        found = self.chosen(request, queryset)
        enabled = [row for row in found if row.enabled]

        def run(session: Any) -> None:
            edit.run(session, [row.name for row in enabled])
            log(session, "schedules.run_requested", _schedules(len(enabled)))

        if enabled and self._did(request, run):
            self.log_changes(request, enabled, "Run now.")
            self.message_user(request, f"Running {_schedules(len(enabled))} now.", messages.SUCCESS)
        if left := len(found) - len(enabled):
            text = f"{_schedules(left)} not run, since disabled: enable first."
            self.message_user(request, text, messages.WARNING)

    def has_run_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may run schedules now."""
        return permitted(self, request, "run_schedule")

    def _switch(self, request: HttpRequest, wanted: Mapping[bool, list[models.Schedule]]) -> None:
        def switch(session: Any) -> None:
            for enabled, found in wanted.items():
                edit.enable(session, [row.name for row in found], enabled=enabled)

        if not self._did(request, switch):
            return
        for enabled, found in wanted.items():
            done = "Enabled" if enabled else "Disabled"
            self.log_changes(request, found, f"{done}.")
            if found or len(wanted) == 1:
                self.message_user(request, f"{done} {_schedules(len(found))}.", messages.SUCCESS)

    def _did(self, request: HttpRequest, change: Any) -> bool:
        """Make a change in a transaction; show why the database refuses it."""
        try:
            with acting(request.user.get_username()) as session:
                change(session)
        except ConfigError as error:
            self.message_user(request, f"Nothing was changed: {error}", messages.ERROR)
            return False
        return True


def _schedules(count: int) -> str:
    return "1 schedule" if count == 1 else f"{count} schedules"


def _late(late: datetime.timedelta) -> str:
    return format_duration(round(late.total_seconds(), 3))
