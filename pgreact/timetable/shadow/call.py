"""Whether two calls are the same, as far as Celery's events tell."""

import ast
import json
from typing import Any, NamedTuple

from celery import Celery
from celery.utils.saferepr import saferepr
from kombu.utils.json import loads

_SHOWN = 1024  # characters of arguments that Celery tells


class Call(NamedTuple):
    """A task with its arguments, in a form that can be compared."""

    task: str
    args: str
    kwargs: str

    def __str__(self) -> str:
        """Return it for people."""
        return f"{self.task} {self.args} {self.kwargs}"


def told(task: str, args: str, kwargs: str) -> Call:
    """Return the call that an event tells of.

    Args:
        task: Its name.
        args: As Celery shows them.
        kwargs: Likewise.
    """
    return Call(task, _form(args), _form(kwargs))


def planned(task: str, args: str, kwargs: str, app: Celery) -> Call:
    """Return the call of a row.

    Args:
        task: Its name.
        args: JSON.
        kwargs: JSON.
        app: Knows how deep Celery shows what is nested.
    """
    levels = app.conf.task_repr_maxlevels
    return told(task, *(saferepr(loads(text), _SHOWN, maxlevels=levels) for text in (args, kwargs)))


def _form(shown: str) -> str:
    """Lists and tuples are one; the order of keys does not matter, and PostgreSQL does not keep it."""
    try:
        return json.dumps(ast.literal_eval(shown), sort_keys=True, ensure_ascii=False, default=_odd)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        # cut short, or with objects
        return shown[1:-1].rstrip(",") if shown[:1] in {"(", "["} else shown


def _odd(value: Any) -> str:
    return repr(sorted(value, key=repr)) if isinstance(value, set) else repr(value)
