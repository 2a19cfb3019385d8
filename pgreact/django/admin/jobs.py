"""Jobs that wait, are in progress or are dead: lists, one job with why it does not run, actions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html

from pgreact.django import models
from pgreact.django.admin import filters
from pgreact.django.admin.base import ReadOnly, number, permitted, uuid, when
from pgreact.django.admin.bulk import Outcome, act
from pgreact.django.admin.keyset import RANGE, Key
from pgreact.django.admin.redacted import redaction
from pgreact.django.session import reading
from pgreact.postgres.change import rows
from pgreact.postgres.queries import query
from pgreact.queue.job_arguments import arguments
from pgreact.queue.why import lines, why

_UNREAD = ("args", "kwargs", "options")
_ATTEMPTS = 50  # of a job that its page shows
# the models of the tables that a job may be in
_MODELS = {"queue": "job", "in_progress": "inprogress", "dead": "deadjob", "history": "settledjob"}


def described(job: int) -> dict[str, Any]:
    """Return what the page of a job shows besides its columns, without what is hidden.

    Returns:
        ``why``: lines; ``arguments``: texts by name, if the job has not settled; ``attempts``: settled ones.
    """
    session, rules = reading(), redaction()
    answer = why(session, job)
    rules.hide_errors(answer)
    attempts = models.SettledJob.objects.filter(pk=job).order_by("-settled_at")[:_ATTEMPTS]
    for attempt in attempts:
        attempt.error = rules.error(attempt.task, attempt.error)
    return {
        "why": list(lines(answer)),
        "arguments": arguments(session, job, rules),
        "attempts": attempts,
        "hides": rules.hides(answer["job"].get("task") or ""),
    }


def outcomes(ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return ``id``, ``table`` and ``outcome`` (or state) of the jobs that are still known."""
    return rows(reading(), query("job_outcomes"), {"ids": [*ids]})


def address(site: str, found: Mapping[str, Any]) -> str:
    """Return the URL of the page of a job.

    Args:
        site: The name of the admin.
        found: One of :func:`outcomes`.
    """
    return reverse(f"{site}:pgreact_{_MODELS[found['table']]}_change", args=[found["id"]])


class CallAdmin(ReadOnly[Any]):
    """A table of jobs.

    Attributes:
        key_index: An index finds jobs by their key.
        shown: The columns of the page of a job.
    """

    change_form_template = "admin/pgreact/job.html"
    list_display_links = ("id",)
    search_help_text = "id, task id, key, or a part of the task's name"
    key = Key("-id")
    across = True
    key_index = True
    shown: tuple[str, ...]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Leave the arguments out, which may be large, and secret."""
        return super().get_queryset(request).defer(*_UNREAD)

    def search(self, term: str) -> Q:
        """Return the condition: an id, a task id, a key, or a part of the task's name."""
        if (found := number(term)) is not None:
            return Q(pk=found)
        if (task_id := uuid(term)) is not None:
            return Q(task_id=task_id)
        if self.key_index:
            return Q(key=term) if self._is_key(term) else Q(task__icontains=term)
        return Q(key=term) | Q(task__icontains=term)

    def by_index(self, request: HttpRequest, term: str) -> bool:
        """Return whether the id or the key is given: other columns have no index."""
        return super().by_index(request, term) or (uuid(term) is None and self._is_key(term))

    def _is_key(self, term: str) -> bool:
        return self.key_index and bool(term) and self.model._default_manager.filter(key=term).exists()

    def prepare(self, page: QuerySet[Any]) -> None:
        """Hide the errors of tasks with a rule."""
        rules = redaction()
        for row in page:
            row.error = rules.error(row.task, getattr(row, "error", None))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Return the columns of the page of a job."""
        return self.shown

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return a job without its hidden error."""
        found = super().get_object(request, object_id, from_field)
        if found is not None and hasattr(found, "error"):
            found.error = redaction().error(found.task, found.error)
        return found

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Show a job with why it does not run, its arguments and its attempts, or go where it is now."""
        job = number(object_id)
        if not self.has_view_permission(request):
            raise PermissionDenied  # before a redirect tells that the job exists
        if job is not None and not self.model._default_manager.filter(pk=job).exists():
            for found in outcomes([job]):
                return HttpResponseRedirect(address(self.admin_site.name, found))
        more = described(job) if job is not None else {}
        return super().change_view(request, object_id, form_url, {**more, **(extra_context or {})})

    def perform(self, request: HttpRequest, queryset: QuerySet[Any], verb: str, done: str) -> None:
        """Act on the chosen jobs, and say how many were changed and how many were not."""
        chosen = self.chosen(request, queryset)
        outcome = act(verb, [row.pk for row in chosen], request.user.get_username())
        said = f"{'; '.join(_said(outcome, done))}."
        self.log_changes(request, chosen, said)
        changed = bool(outcome.done or outcome.started)
        level = messages.SUCCESS if changed and not outcome.locked else messages.WARNING
        self.message_user(request, said, level)

    @admin.display(description="error")
    def error_line(self, row: Any) -> str:
        """Return the first line of an error."""
        line = (row.error or "").partition("\n")[0]
        return line if len(line) <= 120 else f"{line[:119]}…"

    @admin.display(description="enqueued")
    def enqueued(self, row: Any) -> str:
        """Return when a job was enqueued."""
        return when(row.enqueued_at)


def _said(outcome: Outcome, done: str) -> Iterable[str]:
    yield f"{_jobs(outcome.done)} {done}"
    if outcome.started:
        yield f"{_jobs(outcome.started)} already running, for the last time"
    if outcome.passed:
        yield f"{_jobs(outcome.passed)} left as they were: they had changed, or it does not concern them"
    if outcome.locked:
        yield f"{_jobs(outcome.locked)} locked by other transactions: try again"


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


class JobAdmin(CallAdmin):
    """Jobs that wait."""

    list_display = ("id", "task", "lane", "state", "runs_at", "key", "priority", "error_line")
    list_filter = (filters.State, filters.Lane)
    actions = ("cancel_jobs", "run_jobs_now")
    shown = (
        *(
            "id",
            "task",
            "task_id",
            "state",
            "lane",
            "priority",
            "key",
            "unique_key",
            "unique_while",
            "run_at",
        ),
        *("expires", "attempt", "max_attempts", "lost", "max_lost", "backoff", "enqueued_at", "ready_at"),
        "error",
    )

    def by_index(self, request: HttpRequest, term: str) -> bool:
        """Return whether an index finds the id, the key, or the few jobs of a lane and state."""
        return super().by_index(request, term) or (not term and self._few(request) is not None)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Read the few jobs of a lane and state by their index."""
        if not search_term and (few := self._few(request)) is not None:
            return queryset.filter(pk__in=few), False
        return super().get_search_results(request, queryset, search_term)

    def _few(self, request: HttpRequest) -> list[int] | None:
        """Return the ids of a chosen lane's and state's jobs; ``None``: none is chosen, or they are many."""
        if not hasattr(request, "pgreact_few"):
            request.pgreact_few = self._find_few(request)  # type: ignore[attr-defined]
        found: list[int] | None = request.pgreact_few  # type: ignore[attr-defined]
        return found

    def _find_few(self, request: HttpRequest) -> list[int] | None:
        lane, state = (request.GET.get(name, "").replace("\0", "") for name in ("lane", "state"))
        if not lane and not state:
            return None
        jobs = models.Job.objects.filter(**({"lane": lane} if lane else {})).values_list("pk", flat=True)
        # as the conditions of the partial indexes
        parts = [jobs.filter(state="ready")] if state in {"", "ready"} else []
        if state != "ready":
            waiting = jobs.filter(~Q(state="ready"))
            parts.append(waiting.filter(state=state) if state else waiting)
        found = [pk for part in parts for pk in part[:RANGE]]
        return found if len(found) < RANGE else None

    @admin.display(description="runs")
    def runs_at(self, row: models.Job) -> str:
        """Return from when on a job may run."""
        return when(row.run_at)

    @admin.action(description="Cancel selected jobs", permissions=["cancel"])
    def cancel_jobs(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Cancel jobs."""
        self.perform(request, queryset, "cancel", "cancelled")

    @admin.action(description="Run selected delayed jobs now", permissions=["retry"])
    def run_jobs_now(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Make delayed jobs ready."""
        self.perform(request, queryset, "retry", "made ready")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may cancel jobs."""
        return permitted(self, request, "cancel_job")

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may run delayed jobs now."""
        return permitted(self, request, "retry_job")


class InProgressAdmin(CallAdmin):
    """Jobs in progress."""

    list_display = ("id", "task", "lane", "key", "attempt", "progress", "worker", "enqueued")
    list_filter = (filters.Lane,)
    actions = ("cancel_jobs",)
    shown = (
        *("id", "task", "task_id", "lane", "priority", "key", "unique_key", "unique_while", "attempt"),
        *(
            "max_attempts",
            "lost",
            "max_lost",
            "backoff",
            "enqueued_at",
            "ready_at",
            "claimed_at",
            "published_at",
        ),
        *("publishes", "started_at", "worker", "lease_until", "expires"),
    )

    @admin.display(description="progress")
    def progress(self, row: models.InProgress) -> str:
        """Return how far an attempt has come, and when."""
        for word, at in (("started", row.started_at), ("sent", row.published_at)):
            if at is not None:
                return format_html("{} {}", word, when(at))
        return format_html("claimed {}", when(row.claimed_at))

    @admin.action(description="Cancel selected jobs", permissions=["cancel"])
    def cancel_jobs(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Cancel jobs; those that run go on, for the last time."""
        self.perform(request, queryset, "cancel", "cancelled")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may cancel jobs in progress."""
        return permitted(self, request, "cancel_inprogress")


class DeadJobAdmin(CallAdmin):
    """Dead jobs, the last to die first."""

    key = Key("-died_at", "-id")
    key_index = False
    list_display = ("id", "task", "lane", "died", "outcome", "error_line")
    list_filter = (filters.ErrorPattern, filters.Outcome, filters.Lane)
    actions = ("retry_jobs", "discard_jobs")
    shown = (
        *("id", "task", "task_id", "outcome", "died_at", "error", "lane", "priority", "key", "attempt"),
        *("max_attempts", "max_lost", "backoff", "enqueued_at"),
    )

    @admin.display(description="died")
    def died(self, row: models.DeadJob) -> str:
        """Return when a job died."""
        return when(row.died_at)

    @admin.action(description="Retry selected dead jobs", permissions=["retry"])
    def retry_jobs(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Queue dead jobs again, with all their attempts."""
        self.perform(request, queryset, "retry", "queued again")

    @admin.action(description="Discard selected dead jobs", permissions=["discard"])
    def discard_jobs(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Delete dead jobs with their arguments."""
        self.perform(request, queryset, "discard", "discarded")

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may retry dead jobs."""
        return permitted(self, request, "retry_deadjob")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may discard dead jobs."""
        return permitted(self, request, "discard_deadjob")
