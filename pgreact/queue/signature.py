"""What a task object or a canvas says about the job that calls it."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

RUN_CANVAS = "pgreact.run_canvas"  # the worker's task that starts a canvas
# Celery writes these as tasks of its own, not as a kind of signature.
_MAPS = {"celery.map", "celery.starmap", "celery.chunks"}


@dataclasses.dataclass
class Call:
    """A task and what it is called with."""

    task: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    task_id: str | None = None
    run_at: datetime.datetime | float | None = None  # a number: seconds from now


def call_of(task: object, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
    """Return the call that somebody wants.

    Args:
        task: A name, a Celery task, or a signature.
        args: Its arguments; none with a signature, which has its own.
        kwargs: And those with names.

    Raises:
        TypeError: It is nothing of the kind, or the arguments do not fit the task.
    """
    if isinstance(task, str):
        return Call(task, args, kwargs)
    if isinstance(task, Mapping):
        return _signature(task, args, kwargs)
    name = getattr(task, "name", None)
    if not isinstance(name, str) or getattr(task, "app", None) is None:
        hint = "; decorate it with @app.task" if callable(task) else ""
        raise TypeError(
            f"task is of type {type(task).__name__}, neither a name, nor a Celery task, nor a signature{hint}"
        )
    _check_arguments(task, name, args, kwargs)
    return Call(name, args, kwargs)


def _signature(signature: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
    name = signature.get("task")
    if not isinstance(name, str):
        raise TypeError("task is a dict without the name of a task, so no signature")
    if args or kwargs:
        raise TypeError(
            f"task is a signature of {name}, which has its own arguments: leave args and kwargs away"
        )
    options = {key: value for key, value in (signature.get("options") or {}).items() if value is not None}
    run_at = _run_at(name, options)
    if signature.get("subtask_type") or name in _MAPS:
        canvas = {**signature, "options": options}
        return Call(RUN_CANVAS, kwargs={"signature": canvas}, run_at=run_at)
    own_args, own_kwargs = signature.get("args") or (), signature.get("kwargs") or {}
    task = getattr(signature, "_type", None)  # what made the signature; its property "type" would ask the app
    if task is not None:
        _check_arguments(task, name, own_args, own_kwargs)
    options.pop("immutable", None)  # concerns the results of a parent, and a job has none
    task_id = options.pop("task_id", None)  # of a signature that was frozen
    return Call(name, own_args, own_kwargs, options, task_id, run_at)


def _run_at(name: str, options: dict[str, Any]) -> datetime.datetime | float | None:
    """Take what Celery would delay by: a job waits in the queue, and not on a worker."""
    countdown, eta = options.pop("countdown", None), options.pop("eta", None)
    if isinstance(eta, str):
        try:
            eta = datetime.datetime.fromisoformat(eta)
        except ValueError:
            raise ValueError(f'the signature of {name}: eta "{eta}" is no time') from None
    moment: datetime.datetime | float | None = eta if eta is not None else countdown
    return moment


def _check_arguments(task: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse at once what ``delay()`` would refuse at once."""
    check = getattr(task, "__header__", None)
    if check is None or not getattr(task, "typing", False):
        return
    try:
        check(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"the arguments do not fit task {name}: {error}") from None
