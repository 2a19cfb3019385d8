"""The log: every event pgreact writes, its keys and what they mean.

``docs/logs.md`` is made from this module: ``python -m pgreact.logs > docs/logs.md``.
"""

import dataclasses
import logging
import re
import sys
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import structlog

Format = Literal["auto", "console", "json"]
Level = Literal["debug", "info", "warning", "error"]

Route = Annotated[str, "name of the route"]
Schedule = Annotated[str, "name of the schedule"]
Reason = Annotated[str, "why"]
RetryIn = Annotated[float, "seconds until the next attempt"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events."""

    name: ClassVar[str]
    level: ClassVar[Level]

    def __init_subclass__(cls, *, name: str, level: Level = "info") -> None:
        cls.name = name
        cls.level = level


@dataclasses.dataclass(frozen=True, kw_only=True)
class DaemonStarted(Event, name="daemon.started"):
    """The daemon runs and has read its configuration; it has not connected yet."""

    version: Annotated[str, "pgreact's version"]
    host: Annotated[str, "this machine"]
    pid: Annotated[int, "this process"]
    database: Annotated[str, "the DSN of the database, without password"]
    celery: Annotated[str, "the application and broker that it publishes through, without password"]
    config: Annotated[str | None, "configuration file"] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DaemonStopped(Event, name="daemon.stopped"):
    """The daemon ends."""

    reason: Reason
    uptime_s: Annotated[float, "seconds since it started"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListenerConnected(Event, name="listener.connected"):
    """LISTEN is in force: the listener got a notification to itself, or the daemon polls."""

    mode: Annotated[str, "how commits become signals: notify, or poll"]
    reason: Reason
    server: Annotated[str, "PostgreSQL's version"]
    probe_ms: Annotated[float, "round trip of the notification to itself"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListenerLost(Event, name="listener.lost", level="warning"):
    """A session with PostgreSQL ended or is in doubt. Logged once; retried until it works."""

    reason: Reason
    retry_in_s: RetryIn


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListenerSuspended(Event, name="listener.suspended", level="warning"):
    """The daemon does without notifications: it closes the gates and polls. Nothing is lost."""

    reason: Annotated[str, "a flood of notifications, or PostgreSQL's queue for them is filling up"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListenerResumed(Event, name="listener.resumed"):
    """The daemon uses notifications again."""

    after_s: Annotated[float, "seconds without notifications"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StandbyWaiting(Event, name="standby.waiting"):
    """Another daemon leads; this one waits in the lock and takes over the moment it is free."""

    leader: Annotated[str | None, "the leader's host and pid"] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeaderElected(Event, name="leader.elected"):
    """This daemon dispatches from now on; a sweep follows."""

    routes: Annotated[int, "number of routes"]
    waited_s: Annotated[float, "seconds as standby"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeaderLost(Event, name="leader.lost", level="warning"):
    """This daemon stepped down because its session is gone or in doubt."""

    reason: Reason
    led_s: Annotated[float, "seconds it led"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeaderResigned(Event, name="leader.resigned"):
    """This daemon stops and hands over; the next takes over at once."""

    led_s: Annotated[float, "seconds it led"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignalReceived(Event, name="signal.received", level="debug"):
    """A signal made a clean route dirty."""

    route: Route


@dataclasses.dataclass(frozen=True, kw_only=True)
class DispatchPublished(Event, name="dispatch.published"):
    """The broker has the Celery call."""

    route: Route
    task_id: Annotated[str, "Celery's id of the call"]
    signals: Annotated[int, "number of signals that it coalesces"]
    waited_ms: Annotated[float, "from the first of those signals to the broker's answer"]
    publish_ms: Annotated[float, "of that, inside the publish"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DispatchFailed(Event, name="dispatch.failed", level="error"):
    """The broker did not take the call. Logged once for each new error; nothing is lost."""

    route: Route
    error: Annotated[str, "the error of the broker or of Celery"]
    retry_in_s: RetryIn


@dataclasses.dataclass(frozen=True, kw_only=True)
class DispatchRecovered(Event, name="dispatch.recovered"):
    """The route's calls are published again; one call answers all signals since the failure."""

    route: Route
    failures: Annotated[int, "publishes that failed in a row"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueueDispatched(Event, name="queue.dispatched"):
    """The broker has the messages of jobs that were claimed."""

    claimed: Annotated[int, "jobs claimed since the last of these events; the others are published again"]
    published: Annotated[int, "messages the broker has"]
    claim_ms: Annotated[float, "how long the claim took"]
    publish_ms: Annotated[float, "how long the messages took"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueueUnanswered(Event, name="queue.unanswered", level="warning"):
    """Messages of jobs were sent again and again, and no worker starts them.

    If others of the queue are started, a worker takes these and cannot run them: it does not call
    ``pgreact.setup``, or does not know the task. If not, no worker consumes the queue. They are sent again,
    each time twice as late.
    """

    lane: Annotated[str, "their lane"]
    queue: Annotated[str | None, "the Celery queue they were sent to, if it is known"]
    jobs: Annotated[int, "how many"]
    sent: Annotated[int, "how often one of them was sent"]
    consumed: Annotated[bool, "whether jobs of the lane that were sent later have been started"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueueAnswered(Event, name="queue.answered"):
    """No job of this lane and queue waits any more that was sent again and again."""

    lane: Annotated[str, "the lane"]
    queue: Annotated[str | None, "the Celery queue"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaneFilled(Event, name="lane.filled", level="warning"):
    """A lane has jobs that are ready and no place for them, and none has begun for a minute."""

    lane: Annotated[str, "the lane"]
    running: Annotated[int, "its jobs that workers have started"]
    unstarted: Annotated[int, "its jobs whose messages no worker has started"]
    full_s: Annotated[float, "seconds since a job of it was last claimed, or since it was first seen full"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaneFreed(Event, name="lane.freed"):
    """A lane of which ``lane.filled`` was said gets on again, or has nothing to do."""

    lane: Annotated[str, "the lane"]
    full_s: Annotated[float, "seconds that it stood"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobRefused(Event, name="job.refused", level="warning"):
    """No message can be made of a job, or the broker will not have it. The job is dead."""

    job: Annotated[int, "its id"]
    task: Annotated[str, "its task"]
    error: Annotated[str, "what Celery or the broker said"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepFinished(Event, name="sweep.finished"):
    """The daemon looked for work without a signal. A backstop sweep that finds none is not logged."""

    route: Route
    reason: Annotated[str, "elected, added, opened, resumed or backstop"]
    dispatch: Annotated[bool, "whether it makes the route dirty"]
    took_ms: Annotated[float, "how long the ready query took; 0 without one"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepFailed(Event, name="sweep.failed", level="warning"):
    """A route's ready query failed. Logged once for each new error; the sweep dispatches all the same."""

    route: Route
    error: Annotated[str, "the error of PostgreSQL"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepRecovered(Event, name="sweep.recovered"):
    """A route's ready query works again."""

    route: Route


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateClosed(Event, name="gate.closed"):
    """Writers of this route no longer notify; the daemon polls."""

    route: Route
    reason: Reason


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateOpened(Event, name="gate.opened"):
    """Writers of this route notify again."""

    route: Route
    reason: Reason
    closed_s: Annotated[float, "seconds it was closed"]
    polls: Annotated[int, "number of polls meanwhile"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlightStarted(Event, name="flight.started"):
    """A worker has started the task (single_flight = "run")."""

    route: Route
    task_id: Annotated[str, "Celery's id of the call"]
    waited_ms: Annotated[float, "from the publish to the worker's report"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlightEnded(Event, name="flight.ended"):
    """The task's run is over, or will not start (single_flight = "run")."""

    route: Route
    task_id: Annotated[str, "Celery's id of the call"]
    outcome: Annotated[
        str, "done, failed, lost (its worker died), expired (no worker started it), dropped (another waits)"
    ]
    took_ms: Annotated[float, "from the publish to the end"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlightUnanswered(Event, name="flight.unanswered", level="warning"):
    """No worker with pgreact started the task before the message expired. Logged once, until one does."""

    route: Route
    task_id: Annotated[str, "Celery's id of the call"]
    hint: Annotated[str, "what to look at"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RouteChanged(Event, name="route.changed"):
    """A committed change to pgreact.route is in force."""

    route: Route
    change: Annotated[str, "added, removed or changed"]
    keys: Annotated[list[str], "the settings that changed"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RouteUnregistered(Event, name="route.unregistered", level="warning"):
    """Workers replied twice with the tasks that they registered, and none has the route's task.

    Its calls are published all the same, and discarded by the workers. Logged once, until a worker has the
    task. A worker of the pool solo replies between two tasks only; one without remote control never does.
    """

    route: Route
    task: Annotated[str, "its task"]
    workers: Annotated[int, "workers that replied"]
    hint: Annotated[str, "what to look at"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RouteRegistered(Event, name="route.registered"):
    """A worker has registered the route's task after all."""

    route: Route
    task: Annotated[str, "its task"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimetableTaken(Event, name="timetable.taken"):
    """This process fires the schedules from now on."""

    waited_s: Annotated[float, "seconds it waited for another to let go"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimetableWaiting(Event, name="timetable.waiting"):
    """Another process fires the schedules; this one takes over the moment it ends."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimetableBlocked(Event, name="timetable.blocked", level="warning"):
    """Messages of direct delivery cannot be sent. Reported once; retried until it works."""

    reason: Reason
    retry_in_s: RetryIn


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimetableUnblocked(Event, name="timetable.unblocked"):
    """The broker takes messages of direct delivery again."""

    failures: Annotated[int, "attempts that failed meanwhile"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SchedulePlanned(Event, name="schedule.planned"):
    """A schedule is new, or what decides when it runs was edited."""

    schedule: Schedule
    next_run_at: Annotated[str, "when it will be fired next, in UTC"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleFired(Event, name="schedule.fired"):
    """An occurrence was enqueued, or its message sent, and the schedule has moved on."""

    schedule: Schedule
    occurrence: Annotated[str, "its nominal time, in UTC"]
    lateness_ms: Annotated[float, "after the moment it was due at, with jitter"]
    job: Annotated[int | None, "the job's id"] = None
    task_id: Annotated[str | None, "Celery's id of the message, with direct delivery"] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleMisfired(Event, name="schedule.misfired", level="warning"):
    """Occurrences were found later than the schedule's grace, or are not fired.

    By its policy they are not since one after them was due, too: within the grace as well, as after a pause
    of some seconds, or where jitter is longer than the interval. Or they met the job of the one before.
    """

    schedule: Schedule
    policy: Annotated[str, "coalesce, skip or all; overlap: the job of the one before is not done yet"]
    missed: Annotated[int, "occurrences that are not fired"]
    fired: Annotated[int, "occurrences that are fired now"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleReplanned(Event, name="schedule.replanned", level="warning"):
    """A schedule's next run lay further away than its rule explains: the clock had been far ahead.

    It is planned anew from now on; what was fired early is fired again when its time comes.
    """

    schedule: Schedule
    next_run_at: Annotated[str, "when it runs next, in UTC"]
    instead_of: Annotated[str | None, "when it would have run; null: never"] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleFailed(Event, name="schedule.failed", level="error"):
    """A schedule stopped: what it says cannot be computed or sent. An edit starts it again."""

    schedule: Schedule
    error: Annotated[str, "what is wrong; also in its column last_error"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SchedulesApplied(Event, name="schedules.applied"):
    """``celery beat -S pgreact`` has made its own rows as ``beat_schedule`` says, at its start."""

    added: Annotated[list[str], "names of entries that are new; at most 20, as of the others"]
    changed: Annotated[list[str], "whose entry says something else than before"]
    removed: Annotated[list[str], "whose entry is gone"]
    unchanged: Annotated[int, "how many are as before, edits made meanwhile included"]
    left: Annotated[list[str], "entries that have no row; `schedule.refused` says why"]
    others: Annotated[int, "how many rows have another origin: they are fired, too, and left as they are"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleRefused(Event, name="schedule.refused", level="error"):
    """An entry of ``beat_schedule`` is not laid into the timetable; the others are."""

    schedule: Schedule
    error: Annotated[str, "why"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleEnded(Event, name="schedule.ended"):
    """A schedule has no further occurrence."""

    schedule: Schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class NotificationRejected(Event, name="notification.rejected", level="warning"):
    """A session sent pgreact's channel an unknown payload. Logged at most every 10 seconds."""

    payload: Annotated[str, "the first such payload, shortened"]
    backend_pid: Annotated[int, "PostgreSQL process that sent it"]
    count: Annotated[int, "number of such payloads since the last report"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatementFailed(Event, name="statement.failed", level="error"):
    """A statement of the daemon, or what it says of one row, fails. Logged once for each kind of error.

    It is tried again, at growing distances, until `statement.recovered`; everything else goes on.
    """

    statement: Annotated[str, "what fails: claim, published, fire, housekeeping …, or the row it is about"]
    error: Annotated[str, "what PostgreSQL or Python said, and what to do about it"]
    kind: Annotated[
        str, "lost (a session), passing, refused (a right or object is missing), data (of a row) or fault"
    ]
    retry_in_s: RetryIn


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatementRecovered(Event, name="statement.recovered"):
    """What failed works again, or is gone."""

    statement: Annotated[str, "as in statement.failed"]
    failures: Annotated[int, "tries that failed"]
    after_s: Annotated[float, "seconds since the first of them"]


_threshold = logging.DEBUG
_logger: Any = structlog.get_logger()


def shows(kind: type[Event]) -> bool:
    """Return whether such an event would be written: to ask costs less than to make it."""
    severity: int = getattr(logging, kind.level.upper())
    return severity >= _threshold


def emit(event: Event) -> None:
    """Write one event."""
    level: int = getattr(logging, event.level.upper())
    if level < _threshold:
        return
    _logger.log(level, event.name, **vars(event))


def configure(form: Format, level: Level) -> None:
    """Send all logs, those of other libraries from warnings up, to standard error.

    Args:
        form: ``json``, ``console``, or ``auto``: console on a terminal and JSON elsewhere.
        level: The lowest level of pgreact's own events.
    """
    global _threshold, _logger  # noqa: PLW0603 - one log for one process
    _threshold = getattr(logging, level.upper())
    plain = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if plain
        else structlog.processors.JSONRenderer(default=str)
    )
    tail = (
        [_for_a_terminal, renderer] if plain else [structlog.processors.format_exc_info, _in_order, renderer]
    )
    structlog.configure(
        processors=[*shared, *tail],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    _logger = structlog.get_logger().bind()  # to bind it costs as much as to write
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def printable(text: str) -> str:
    """Return a text with JSON's escapes for what a terminal would obey instead of showing it.

    Line breaks and tabs stay.
    """
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


# control characters but tab and line feed, and what turns the direction of writing
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def _for_a_terminal(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    return {key: printable(value) if isinstance(value, str) else value for key, value in event.items()}


def _in_order(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Put what every line has in front of an event's own keys."""
    head = {"timestamp": event.pop("timestamp"), "level": event.pop("level"), "event": event.pop("event")}
    return head | event


def join(logger: str) -> None:
    """Send pgreact's events to a logger of ``logging``, in a process whose log is somebody else's.

    Args:
        logger: Its name; the level that it has now decides what is written.
    """
    global _threshold, _logger  # noqa: PLW0603 - one log for one process
    _threshold = logging.getLogger(logger).getEffectiveLevel()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.KeyValueRenderer(key_order=["event"], drop_missing=True),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=lambda *_: logging.getLogger(logger),
        cache_logger_on_first_use=False,
    )
    _logger = structlog.get_logger().bind()


def _catalogue() -> Iterator[str]:
    yield "# Log events"
    yield ""
    yield "Made from `pgreact/logs.py` by `python -m pgreact.logs`; do not edit."
    yield ""
    yield "Every line begins with `timestamp` (UTC), `level` and `event`. A key, once released, is never"
    yield "renamed silently."
    for event in Event.__subclasses__():
        yield ""
        yield f"## `{event.name}` ({event.level})"
        yield ""
        yield (event.__doc__ or "").strip()
        yield ""
        hints = get_type_hints(event, include_extras=True)
        for field in dataclasses.fields(event):
            hint = hints[field.name]
            kind, meaning = get_args(hint)[:2] if get_origin(hint) is Annotated else (hint, "")
            shown = kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)
            yield f"- `{field.name}` ({shown}): {meaning}"


if __name__ == "__main__":
    sys.stdout.write("\n".join(_catalogue()) + "\n")
