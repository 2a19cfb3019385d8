"""A call that is planned, and whether another one is the same, as far as Celery's events tell."""

import dataclasses
import json
from typing import Any

from kombu.utils.json import loads

from pgreact.timetable.shadow.shown import shows


@dataclasses.dataclass(frozen=True)
class Call:
    """A task with its arguments.

    Attributes:
        task: Its name.
        args: JSON of a call that is planned; of one that was sent, what Celery shows.
        kwargs: Likewise.
        shown: How each of the two is shown of a call that is planned: its value; or the text that the caller
            chose to show instead.
    """

    task: str
    args: str
    kwargs: str
    shown: tuple[Any, Any] | None = dataclasses.field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        """Return it for people."""
        return f"{self.task} {self.args} {self.kwargs}"

    def may_be(self, sent: "Call") -> bool:
        """Return whether a call that was sent may be this one, which is planned."""
        assert self.shown is not None
        return self.task == sent.task and all(
            text == value.text if isinstance(value, _Chosen) else shows(text, value)
            for text, value in zip((sent.args, sent.kwargs), self.shown, strict=True)
        )


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """A text instead of arguments: the options ``argsrepr`` and ``kwargsrepr``."""

    text: str


def planned(task: str, args: str, kwargs: str, options: str = "{}") -> Call:
    """Return the call of a row.

    Args:
        task: Its name.
        args: JSON.
        kwargs: JSON.
        options: JSON; they may say how arguments are shown.
    """
    chosen = json.loads(options)
    shown = (
        _Chosen(chosen[name]) if chosen.get(name) is not None else _read(text)
        for name, text in (("argsrepr", args), ("kwargsrepr", kwargs))
    )
    return Call(task, args, kwargs, (next(shown), next(shown)))


def _read(text: str) -> Any:
    try:
        return loads(text)
    except Exception:  # noqa: BLE001 - a mark that only the application can read
        return json.loads(text)
