"""A job as its author describes it."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol


class TaskLike(Protocol):
    """A Celery task, by what matters here."""

    @property
    def name(self) -> str:
        """The name under which workers know it."""
        ...

    @property
    def app(self) -> Any:
        """The application it belongs to."""
        ...


@dataclasses.dataclass(frozen=True)
class Job:
    """One job for :func:`pgreact.enqueue_many`; its fields are the arguments of :func:`pgreact.enqueue`."""

    task: str | TaskLike | Mapping[str, Any]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] | None = None
    _: dataclasses.KW_ONLY
    lane: str | None = None
    priority: int = 0
    run_at: datetime.datetime | datetime.timedelta | float | None = None
    key: str | None = None
    unique_key: str | None = None
    unique_while: Literal["queued", "in_progress"] = "queued"
    max_attempts: int = 1
    backoff: datetime.timedelta | float = 5
    expires: datetime.datetime | datetime.timedelta | float | None = None
    options: Mapping[str, Any] | None = None
    max_lost: int | None = None
