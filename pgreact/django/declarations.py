"""Declarations on models: what their tables signal and enqueue."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, overload

from django.apps.registry import Apps
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model

from pgreact.django.constraints import Outbox, WatchedBy, name_of
from pgreact.errors import ConfigError
from pgreact.queue.attachment import made

M = TypeVar("M", bound=type[Model])
_Names = str | Sequence[str]


@overload
def watch(
    model: M,
    *,
    route: str,
    on: _Names = ...,
    task: str | None = ...,
    when: str | None = ...,
    changed: _Names | None = ...,
    always: bool = ...,
) -> M: ...
@overload
def watch(
    *,
    route: str,
    on: _Names = ...,
    task: str | None = ...,
    when: str | None = ...,
    changed: _Names | None = ...,
    always: bool = ...,
) -> Callable[[M], M]: ...
def watch(
    model: M | None = None,
    *,
    route: str,
    on: _Names = ("insert", "update", "delete"),
    task: str | None = None,
    when: str | None = None,
    changed: _Names | None = None,
    always: bool = False,
) -> M | Callable[[M], M]:
    """Declare that changes of a model's table signal a route; ``makemigrations`` writes the migration.

    A call in ``models.py``, or in ``AppConfig.ready``, or a class decorator without the model::

        @pgreact.django.watch(route="dispatch", task="shop.tasks.dispatch", on=("insert", "update"))
        class Order(models.Model): ...

    Args:
        model: The model; none: return a decorator.
        route: The route's name.
        on: Events: ``insert``, ``update``, ``delete``, ``truncate``.
        task: The task that a missing route gets; none: ``settings.PGREACT`` configures the route.
        when: A condition in SQL on the columns, or fields, of the row: ``new.status = 'paid'``.
        changed: Fields of which an update must change one.
        always: Signal also for rows that logical replication applies.

    Raises:
        ImproperlyConfigured: The arguments contradict each other, or the model has no table of its own.
    """
    given = {"route": route, "on": on, "task": task, "when": when, "changed": changed, "always": always}
    return _declare(WatchedBy, model, given)


@overload
def outbox(
    model: M,
    *,
    enqueue: str,
    on: _Names = ...,
    lane: str | None = ...,
    when: str | None = ...,
    changed: _Names | None = ...,
    always: bool = ...,
) -> M: ...
@overload
def outbox(
    *,
    enqueue: str,
    on: _Names = ...,
    lane: str | None = ...,
    when: str | None = ...,
    changed: _Names | None = ...,
    always: bool = ...,
) -> Callable[[M], M]: ...
def outbox(
    model: M | None = None,
    *,
    enqueue: str,
    on: _Names = ("insert", "update", "delete"),
    lane: str | None = None,
    when: str | None = None,
    changed: _Names | None = None,
    always: bool = False,
) -> M | Callable[[M], M]:
    """Declare that each change of a model's table enqueues a job; ``makemigrations`` writes the migration.

    It is called as :func:`watch` is.

    Args:
        model: The model; none: return a decorator.
        enqueue: The job's task.
        on: Events: ``insert``, ``update``, ``delete``, ``truncate``.
        lane: The job's lane; none: that of the task's Celery queue.
        when: A condition in SQL on the columns, or fields, of the row: ``new.status = 'paid'``.
        changed: Fields of which an update must change one.
        always: Enqueue also for rows that logical replication applies.

    Raises:
        ImproperlyConfigured: The arguments contradict each other, or the model has no table of its own.
    """
    given = {"enqueue": enqueue, "on": on, "lane": lane, "when": when, "changed": changed, "always": always}
    return _declare(Outbox, model, given)


def declared(apps: Apps) -> Iterator[tuple[type[Model], WatchedBy | Outbox]]:
    """Return the declarations on all models of a registry: the project's, or that of the migrations."""
    for model in apps.get_models():
        for constraint in model._meta.constraints:
            if isinstance(constraint, WatchedBy | Outbox):
                yield model, constraint


def _declare(
    constraint: type[WatchedBy | Outbox], model: M | None, given: dict[str, Any]
) -> M | Callable[[M], M]:
    def declare(model: M) -> M:
        _refuse_tableless(model)
        kwargs = {key: value for key, value in given.items() if value is not None}
        try:
            attachment = made(constraint.kind, kwargs)
        except ConfigError as error:
            raise ImproperlyConfigured(f"{model._meta.label}: {error}") from None
        added = constraint(name=name_of(attachment, model), **kwargs)
        added.model = model
        options = model._meta
        # as Meta.constraints: what makemigrations reads
        options.constraints = [*(c for c in options.constraints if c.name != added.name), added]
        options.original_attrs["constraints"] = options.constraints
        return model

    return declare if model is None else declare(model)


def _refuse_tableless(model: type[Model]) -> None:
    options = model._meta
    if options.abstract:
        raise ImproperlyConfigured(
            f"{model.__module__}.{model.__qualname__} is abstract and has no table: declare it on each model "
            "that inherits from it"
        )
    if options.proxy and options.concrete_model is not None:
        raise ImproperlyConfigured(
            f"{options.label} is a proxy without a table: declare it on {options.concrete_model._meta.label}"
        )
    if options.auto_created or not options.managed or options.swapped:
        raise ImproperlyConfigured(
            f"{options.label} is not managed by migrations of its own: attach its table by the operations "
            f"AttachRoute and AttachOutbox, in a migration of yours: '{options.db_table}'"
        )
