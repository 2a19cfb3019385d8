"""The task, arguments and options of a job, from a task's name, a Celery task or a Celery signature."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

RUN_CANVAS = "pgreact.run_canvas"  # the worker's task that starts a canvas
# In Celery these are tasks, not a kind (subtask_type) of signature.
_MAPS = {"celery.map", "celery.starmap", "celery.chunks"}


@dataclasses.dataclass
class Signature:
    """A task with its arguments and options."""

    task: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    task_id: str | None = None
    run_at: datetime.datetime | float | None = None  # a number is seconds from now


def signature_of(task: object, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Signature:
    """Return the signature of a job.

    Args:
        task: A task's name, a Celery task, or a Celery signature.
        args: Positional arguments; empty with a Celery signature, which has its own.
        kwargs: Keyword arguments; empty with a Celery signature.

    Raises:
        TypeError: ``task`` is none of these, or the arguments do not fit the task.
        ValueError: The signature's ``eta`` is no time.
    """
    if isinstance(task, str):
        return Signature(task, args, kwargs)
    if isinstance(task, Mapping):
        return _of_celery(task, args, kwargs)
    name = getattr(task, "name", None)
    if not isinstance(name, str) or getattr(task, "app", None) is None:
        hint = "; decorate it with @app.task" if callable(task) else ""
        raise TypeError(
            f"task is of type {type(task).__name__}, neither a name, nor a Celery task, nor a signature{hint}"
        )
    _check_arguments(task, name, args, kwargs)
    return Signature(name, args, kwargs)


def _of_celery(signature: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Signature:
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
        return Signature(RUN_CANVAS, kwargs={"signature": canvas}, run_at=run_at)
    own_args, own_kwargs = signature.get("args") or (), signature.get("kwargs") or {}
    task = getattr(signature, "_type", None)  # the property "type" would ask the app
    if task is not None:
        _check_arguments(task, name, own_args, own_kwargs)
    options.pop("immutable", None)  # about the results of a parent, which a job does not have
    task_id = options.pop("task_id", None)  # a frozen signature has one
    return Signature(name, own_args, own_kwargs, options, task_id, run_at)


def _run_at(name: str, options: dict[str, Any]) -> datetime.datetime | float | None:
    """Take ``countdown`` or ``eta`` out of the options: a job waits in the queue, not on a worker."""
    countdown, eta = options.pop("countdown", None), options.pop("eta", None)
    if isinstance(eta, str):
        try:
            eta = datetime.datetime.fromisoformat(eta)
        except ValueError:
            raise ValueError(f'the signature of {name}: eta "{eta}" is no time') from None
    moment: datetime.datetime | float | None = eta if eta is not None else countdown
    return moment


def _check_arguments(task: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse the arguments that ``delay()`` refuses."""
    check = getattr(task, "__header__", None)
    if check is None or not getattr(task, "typing", False):
        return
    try:
        check(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"the arguments do not fit task {name}: {error}") from None
