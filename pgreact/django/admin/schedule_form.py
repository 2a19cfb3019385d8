"""The form of a schedule: a field for each column, checked here and by the database before it is saved."""

import functools
import zoneinfo
from collections.abc import Iterable, Mapping
from typing import Any

from django import forms
from django.forms.utils import flatatt
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from pgreact.django import models
from pgreact.django.admin.redacted import redaction
from pgreact.django.admin.tasks import registered_tasks
from pgreact.django.session import reading
from pgreact.postgres.change import Connection
from pgreact.timetable import edit
from pgreact.timetable import form as columns
from pgreact.timetable.columns import CHOICES, FLAGS, VALUES, Mistakes
from pgreact.timetable.settings import WAYS, ScheduleSettings
from pgreact.timetable.views import named

_SUGGESTED = 200  # lanes
_SWITCH = {"true": True, "false": False}
_WAYS = (
    ("every", "at an interval"),
    ("cron", "by a cron expression"),
    ("at", "once, at a time"),
    ("solar", "by the sun"),
    ("rrule", "by a rule of RFC 5545"),
)
_FLAGS = ("enabled", *(name for name in FLAGS if name != "enabled"))
_LONG = ("args", "kwargs", "options", "description")


class Suggesting(forms.TextInput):
    """A text with suggestions, which may also be another one."""

    def __init__(self, suggestions: Iterable[str] = (), attrs: dict[str, Any] | None = None) -> None:
        super().__init__(attrs)
        self.suggestions = suggestions

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        """Return the field with its list."""
        list_id = f"{(attrs or {}).get('id', name)}_list"
        field = super().render(name, value, {**(attrs or {}), "list": list_id}, renderer)
        options = format_html_join(
            "", "<option{}>", ((flatatt({"value": each}),) for each in self.suggestions)
        )
        return format_html('{}<datalist id="{}">{}</datalist>', field, list_id, options)


class ScheduleForm(forms.ModelForm):  # type: ignore[type-arg]
    """A schedule.

    Attributes:
        schedule: What the form describes, once it is valid.
        previews: Nothing will be saved, so the name may be another schedule's.
    """

    name = forms.CharField(max_length=200, help_text="Unique; jitter is spread by it.")
    task = forms.CharField(max_length=255, help_text="Name of a Celery task; registered ones are suggested.")
    way = forms.ChoiceField(label="Recurs", choices=_WAYS, widget=forms.RadioSelect, initial="every")

    schedule: ScheduleSettings
    previews = False

    class Meta:
        """The model; its fields come from the columns of a schedule."""

        model = models.Schedule
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        session = reading()
        self._row: Mapping[str, Any] | None = None
        hidden = False
        if self.instance.pk is not None:
            self._row = named(session, [self.instance.name])[self.instance.name]
            hidden = redaction().hides(self._row["task"])
        self._before = columns.defaults() if self._row is None else columns.texts(self._row, hidden=hidden)
        before = {name: _SWITCH.get(text, text) for name, text in self._before.items()}
        before["enabled"] = True if self._row is None else self._row["enabled"]
        if self._row is not None:
            before["way"] = next(way for way in WAYS if self._row[way] is not None)
            before["name"] = self._row["name"]
        self.initial = {**before, **({} if self._row else self.initial)}
        if hidden:
            for name in columns.HIDEABLE:
                del self.fields[name]
            self.fields["task"].disabled = True
            self.fields["task"].help_text = "Its arguments are hidden, and stay with this task."
        if self._row is not None and self._row["origin"] != "sql":
            self.fields["name"].disabled = True
            self.fields["name"].help_text = "The entry of the configuration has this name."
        lanes = models.Lane.objects.order_by("name").values_list("name", flat=True)[:_SUGGESTED]
        _suggest(self.fields["task"], registered_tasks())
        _suggest(self.fields["lane"], lanes)
        _suggest(self.fields["timezone"], _zones())

    @property
    def row(self) -> Mapping[str, Any] | None:
        """The schedule as it is; ``None``: it is new."""
        return self._row

    def clean(self) -> dict[str, Any]:
        """Check the fields, then let the database check the schedule."""
        found: dict[str, Any] = super().clean() or {}
        given = self._given(found)
        way = found.get("way")
        for other in WAYS:
            if way and other != way and given.get(other):
                self.add_error(other, f"leave this empty: the schedule recurs {dict(_WAYS)[way]}")
        if way and not given.get(way):
            self.add_error(way, "fill this in")
        name = found.get("name")
        if (
            name
            and not self.previews
            and models.Schedule.objects.filter(name=name).exclude(pk=self.instance.pk).exists()
        ):
            self.add_error("name", f'a schedule "{name}" exists')
        if self.errors:
            return found
        try:
            self.schedule = columns.read({**self._before, **given})
            edit.check(reading(), found["name"], self.schedule)
        except Mistakes as error:
            for column, said in error.columns.items():
                self._wrong(column, said)
        except edit.Refused as error:
            self._wrong(error.column, str(error))
        return found

    def write(self, session: Connection) -> list[str]:
        """Add or change the schedule; return the columns that changed.

        Raises:
            ConfigError: The database refuses it after all.
        """
        given = self._given(self.cleaned_data)
        name = str(self.cleaned_data["name"])
        if self._row is None:
            columns.add(session, name, given)
            return []
        enabled = bool(self.cleaned_data["enabled"])
        changed = columns.change(
            session, self._row, {key: text for key, text in given.items() if key != "enabled"}
        )
        if enabled != self._row["enabled"]:
            edit.enable(session, [self._row["name"]], enabled=enabled)
            changed.append("enabled")
        if name != self._row["name"]:
            edit.rename(session, self._row["name"], name)
            changed.append("name")
        return changed

    def _given(self, found: Mapping[str, Any]) -> dict[str, str]:
        """Return the columns as texts."""
        names = [name for name in self.fields if name not in {"name", "way"}]
        texts = {name: found.get(name, "") for name in names}
        return {
            name: str(text).lower() if isinstance(text, bool) else text.replace("\r\n", "\n").strip()
            for name, text in texts.items()
        }

    def _wrong(self, column: str | None, said: str) -> None:
        self.add_error(column if column in self.fields else None, said)


@functools.cache
def _zones() -> list[str]:
    return sorted(zoneinfo.available_timezones())  # reads a directory


def _suggest(field: forms.Field, suggestions: Iterable[str]) -> None:
    field.widget = Suggesting(suggestions, {**field.widget.attrs, "size": 50})


def _column_fields() -> dict[str, forms.Field]:
    """Return a field for each column that the command line has as an option."""
    found: dict[str, forms.Field] = {}
    for name, (_, about) in VALUES.items():
        text = about.replace("--", "")
        widget = (
            forms.Textarea(attrs={"rows": 2, "cols": 70})
            if name in _LONG
            else forms.TextInput(attrs={"size": 50})
        )
        found[name] = forms.CharField(required=False, help_text=text, widget=widget)
    for name, (words, about) in CHOICES.items():
        choices = [(word, word) for word in words]
        found[name] = forms.ChoiceField(choices=choices, help_text=about, required=False)
    for name in _FLAGS:
        found[name] = forms.BooleanField(required=False, help_text=FLAGS[name][1])
    found["timezone"].label = "Time zone"
    found["cron_and"].label = "Both days must match"
    return found


ScheduleForm.declared_fields.update(_column_fields())
