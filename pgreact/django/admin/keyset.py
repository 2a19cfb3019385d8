"""Pages of a list by key, at a cost that does not grow with the table.

A page begins behind the key of the last row of the one before, and nothing counts the table. A search or a
filter reads ``RANGE`` rows at most, in the order of the list, and says where it ended; the next page
continues there. Only rows that an index finds are read to the end.
"""

import datetime
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

RANGE = 20_000  # rows that a page of a search or filter reads at most
MOST = 10_000  # rows that an action on all that match takes at most

if TYPE_CHECKING:
    from pgreact.django.admin.base import PgreactAdmin

    Rows = QuerySet[Any]


class Key:
    """The order of a list: columns that are never null and together unique.

    Args:
        columns: As for ``order_by``, all in one direction.
    """

    def __init__(self, *columns: str) -> None:
        self.columns = columns
        self._names = [column.removeprefix("-") for column in columns]
        self._behind = "lt" if columns[0].startswith("-") else "gt"

    def behind(self, rows: "Rows", values: Sequence[Any], *, reverse: bool = False) -> "Rows":
        """Return the rows behind a key; reversed: that key and those before it."""
        condition, equal = Q(), Q()
        for name, value in zip(self._names, values, strict=True):
            condition |= equal & Q(**{f"{name}__{self._behind}": value})
            equal &= Q(**{name: value})
        if reverse:
            return rows.exclude(condition)
        # the first column alone, too: an index finds it
        return rows.filter(Q(**{f"{self._names[0]}__{self._behind}e": values[0]}), condition)

    def token(self, values: Sequence[Any]) -> str:
        """Return a key as text for a URL; Django's encoder would leave the microseconds out."""
        return json.dumps(list(values), default=datetime.datetime.isoformat, separators=(",", ":"))

    def read(self, model: type[Model], text: str | None) -> list[Any] | None:
        """Return the key of a URL; ``None``: there is none, and the list begins at its first row."""
        try:
            given = json.loads(text or "null")
            if not isinstance(given, list) or len(given) != len(self._names):
                return None
            fields: list[Any] = [model._meta.get_field(name) for name in self._names]
            return [_value(field, value) for field, value in zip(fields, given, strict=True)]
        except (ValueError, TypeError, OverflowError, RecursionError, ValidationError):
            return None

    def of(self, row: Model) -> list[Any]:
        """Return the key of a row."""
        return [getattr(row, name) for name in self._names]

    def edge(self, rows: "Rows") -> list[Any] | None:
        """Return the key of the last row of a range; ``None``: there are no more rows than that."""
        found = rows.order_by(*self.columns).values_list(*self._names)[RANGE - 1 : RANGE + 1]
        return list(found[0]) if len(found) > 1 else None


def _value(field: Any, given: Any) -> Any:
    """Return the value of a key's column.

    Raises:
        ValueError: PostgreSQL has no such value.
        TypeError: The field takes no such value.
        OverflowError: The number is infinite.
        ValidationError: The field refuses it.
    """
    value = field.to_python(given)
    if value is None or (isinstance(value, str) and b"\0" in value.encode()):  # refuses lone surrogates
        raise ValueError(given)
    if isinstance(value, datetime.datetime):
        if timezone.is_aware(value) != timezone.is_aware(timezone.now()):
            raise ValueError(given)
        if timezone.is_aware(value):
            return value.astimezone(datetime.UTC)  # PostgreSQL refuses offsets beyond 15:59:59
    return value


class KeysetList(ChangeList):
    """A list whose pages begin behind a key.

    Attributes:
        next_page: The query of the URL of the next page; ``None``: this is the last one.
        first_page: That of the first page; ``None``: this is it.
        ended: The search ended before the table did.
    """

    next_page: str | None = None
    first_page: str | None = None
    ended = False
    model_admin: "PgreactAdmin[Any]"

    def get_results(self, request: HttpRequest) -> None:
        """Read one page."""
        admin = self.model_admin
        key = admin.key
        start = key.read(self.model, request.GET.get(PAGE_VAR))
        found, edge = self.ranged(request, start)
        rows = found.order_by(*key.columns)[: self.list_per_page]
        size = len(rows)
        admin.prepare(rows)
        if size == self.list_per_page:
            last = key.of(rows[size - 1])
            if edge is not None or key.behind(found, last).exists():
                self.next_page = self.get_query_string({PAGE_VAR: key.token(last)})
        elif edge is not None:
            self.ended = True
            self.next_page = self.get_query_string({PAGE_VAR: key.token(edge)})
        if start is not None:
            self.first_page = self.get_query_string(remove=[PAGE_VAR])
        self.result_list = rows
        self.result_count = size
        if size == self.list_per_page and admin.across and start is None:
            self.result_count = found.order_by()[:MOST].count()
        self.full_result_count = self.result_count  # so the search box shows neither
        self.show_full_result_count = False
        self.show_admin_actions = True
        self.can_show_all = False
        self.multi_page = self.next_page is not None or start is not None
        self.paginator = Paginator([], self.list_per_page)

    def ranged(self, request: HttpRequest, start: Sequence[Any] | None) -> "tuple[Rows, list[Any] | None]":
        """Return the rows that match behind a key, in one range, and the range's end if more rows follow."""
        admin, found = self.model_admin, self.queryset
        every = admin.ranged(request, self.root_queryset)
        if start is not None:
            found, every = admin.key.behind(found, start), admin.key.behind(every, start)
        narrowed = bool(self.query or self.get_filters_params())
        if not narrowed or admin.by_index(request, self.query):
            return found, None
        edge = admin.key.edge(every)
        return (found if edge is None else admin.key.behind(found, edge, reverse=True)), edge
