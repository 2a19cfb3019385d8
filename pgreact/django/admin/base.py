"""The admin of a table of schema pgreact: its database, its pages by key, its permissions."""

import datetime
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.views.main import ChangeList
from django.db.models import Model, Q, QuerySet
from django.forms import Media
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html

from pgreact.django import conf
from pgreact.django.admin.keyset import MOST, Key, KeysetList
from pgreact.errors import ConfigError
from pgreact.quantities import format_duration

M = TypeVar("M", bound=Model)

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin
else:

    class _ModelAdmin(admin.ModelAdmin):
        """Django's, which is generic for type checkers only."""

        def __class_getitem__(cls, _item: object) -> type:
            return cls


class PgreactAdmin(_ModelAdmin[M]):
    """A list by key, without counts; searches go by an index or read a range.

    Attributes:
        key: The order of the list.
        across: Actions may take all rows that match, not those of the page alone.
    """

    key: ClassVar[Key]
    across: ClassVar[bool] = False
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    list_per_page = 50
    search_fields = ("pk",)  # shows the search box; search() decides
    change_list_template = "admin/pgreact/change_list.html"

    @property
    def media(self) -> Media:
        """Add the styles of these pages."""
        return super().media + Media(css={"all": ["pgreact/admin.css"]})

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Return whether the index lists the table: not where no database can have it."""
        try:
            return conf.is_postgres() and super().has_module_permission(request)
        except ConfigError:
            return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Return whether a parameter of the URL is that of a filter.

        Django allows any lookup of a model's own columns: ``?kwargs__card__startswith=4`` would tell, digit
        by digit, what ``[web] redact`` hides, and no index finds its rows. A subclass may filter by a column.
        """
        for each in self.get_list_filter(request):
            found = each[0] if isinstance(each, list | tuple) else each
            if isinstance(found, str):
                if lookup == found or lookup.startswith(f"{found}__"):
                    return True
            elif lookup == getattr(found, "parameter_name", None):
                return True
        return False

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> M | None:
        """Return a row; no text of PostgreSQL has a NUL."""
        return None if "\0" in object_id else super().get_object(request, object_id, from_field)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the list by key."""
        return KeysetList

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Return the order of the key."""
        return self.key.columns

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[M], search_term: str
    ) -> tuple[QuerySet[M], bool]:
        """Search by what an index finds, else in a range."""
        term = search_term.replace("\0", "").strip()
        return (queryset.filter(self.search(term)) if term else queryset), False

    def search(self, term: str) -> Q:
        """Return the condition of a search."""
        raise NotImplementedError

    def by_index(self, request: HttpRequest, term: str) -> bool:
        """Return whether an index finds all rows that match, so no range is needed."""
        return number(term) is not None

    def ranged(self, request: HttpRequest, rows: QuerySet[M]) -> QuerySet[M]:
        """Return the rows of which a search reads a range."""
        return rows

    def prepare(self, rows: QuerySet[M]) -> None:
        """Add to the rows of a page what its columns show."""

    def chosen(self, request: HttpRequest, queryset: QuerySet[M]) -> list[M]:
        """Return the rows that an action takes: those selected, or all that the first page's range has."""
        if request.POST.get("select_across") == "1":
            found = self.get_changelist_instance(request)
            assert isinstance(found, KeysetList)
            queryset, _ = found.ranged(request, None)
        return list(queryset.order_by(*self.key.columns)[:MOST])

    def log_changes(self, request: HttpRequest, rows: list[M], message: str) -> None:
        """Write an entry of the admin's log for each row."""
        if rows:
            LogEntry.objects.log_actions(request.user.pk, rows, CHANGE, message)  # type: ignore[arg-type]


class ReadOnly(PgreactAdmin[M]):
    """A table that actions change, not forms."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return that nothing is added here."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        """Return that nothing is edited here."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        """Return that actions remove rows, not the admin's own deletion."""
        return False


def permitted(admin_: PgreactAdmin[Any], request: Any, codename: str) -> bool:
    """Return whether a user has a permission of this app."""
    return bool(request.user.has_perm(f"{admin_.opts.app_label}.{codename}"))


def number(term: str) -> int | None:
    """Return the id that a text is; ``None``: it is none."""
    return int(term) if term.isascii() and term.isdigit() and len(term) < 19 else None


def uuid(term: str) -> UUID | None:
    """Return the task id that a text is; ``None``: it is none."""
    try:
        return UUID(term)
    except ValueError:
        return None


def when(moment: datetime.datetime | None) -> str:
    """Return a time relative to now, with the time itself as a tooltip."""
    if moment is None:
        return "-"
    seconds = (moment - timezone.now()).total_seconds()
    shown = timezone.localtime(moment) if timezone.is_aware(moment) else moment
    near = format_duration(abs(seconds), roughly=True)
    text = f"in {near}" if seconds > 0 else f"{near} ago"
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', shown.isoformat(), f"{shown:%Y-%m-%d %H:%M:%S %Z}", text
    )
