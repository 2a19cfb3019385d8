"""A planned call, and whether a sent one is the same, as far as Celery's events show."""

import dataclasses
import json
from typing import Any

from kombu.utils.json import loads

from pgreact.timetable.shadow.argsrepr import may_show


@dataclasses.dataclass(frozen=True)
class Call:
    """A task with its arguments.

    Attributes:
        task: Its name.
        args: Of a planned call, JSON; of a sent one, Celery's ``argsrepr``.
        kwargs: Likewise.
        shown: Of a planned call, for args and kwargs: the value, or the text that its options show instead.
    """

    task: str
    args: str
    kwargs: str
    shown: tuple[Any, Any] | None = dataclasses.field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        """Return the call as text."""
        return f"{self.task} {self.args} {self.kwargs}"

    def may_be(self, sent: "Call") -> bool:
        """Return whether a sent call may be this planned one."""
        assert self.shown is not None
        return self.task == sent.task and all(
            text == value.text if isinstance(value, _Chosen) else may_show(text, value)
            for text, value in zip((sent.args, sent.kwargs), self.shown, strict=True)
        )


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """A text shown instead of arguments: the option ``argsrepr`` or ``kwargsrepr``."""

    text: str


def planned(task: str, args: str, kwargs: str, options: str = "{}") -> Call:
    """Return the call of a row.

    Args:
        task: Its name.
        args: JSON.
        kwargs: JSON.
        options: JSON, perhaps with ``argsrepr`` and ``kwargsrepr``.
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
    except Exception:  # noqa: BLE001 - a type that only the application can decode
        return json.loads(text)
