"""The log: the catalogue of events with their keys, and the output.

``docs/logs.md`` is generated from this module: ``python -m pgreact.logs > docs/logs.md``.
"""

import dataclasses
import inspect
import logging
import os
import re
import sys
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

# structlog draws tracebacks with rich if that is installed, as by pgreact[top]: another format, 4 MB more
_blocked = "rich" not in sys.modules
if _blocked:
    sys.modules["rich"] = None  # type: ignore[assignment]
try:
    import structlog
finally:
    if _blocked:
        del sys.modules["rich"]

Format = Literal["auto", "console", "json"]
Level = Literal["debug", "info", "warning", "error"]

Route = Annotated[str, "name of the route"]
Schedule = Annotated[str, "name of the schedule"]
Reason = Annotated[str, "the reason"]
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
    """The daemon has read its configuration. It has not connected yet."""

    version: Annotated[str, "version of pgreact"]
    host: Annotated[str, "host name"]
    pid: Annotated[int, "process id"]
    database: Annotated[str, "host, port, database and user it connects to"]
    celery: Annotated[str, "Celery application or broker URL, without password"]
    config: Annotated[str | None, "path of the configuration file"] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DaemonStopped(Event, name="daemon.stopped"):
    """The daemon exits."""

    reason: Reason
    uptime_s: Annotated[float, "seconds since the start"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class HttpOpened(Event, name="http.opened"):
    """The daemon answers probes and scrapes from now on."""

    address: Annotated[str, "host and port"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListenerConnected(Event, name="listener.connected"):
    """The daemon connected: it received a notification that it sent to itself, or it polls."""

    mode: Annotated[str, "how commits become signals: notify, or poll"]
    reason: Reason
    server: Annotated[str, "version of PostgreSQL"]
    probe_ms: Annotated[float, "round trip of that notification, in milliseconds"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListenerLost(Event, name="listener.lost", level="warning"):
    """A session with PostgreSQL ended or is in doubt. The daemon reconnects; logged once."""

    reason: Reason
    retry_in_s: RetryIn


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListenerSuspended(Event, name="listener.suspended", level="warning"):
    """The daemon stopped listening: it closed all gates, and polls. No signal is lost."""

    reason: Annotated[str, "a flood of notifications, or PostgreSQL's notification queue is filling up"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListenerResumed(Event, name="listener.resumed"):
    """The daemon listens again."""

    suspended_s: Annotated[float, "seconds without LISTEN"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StandbyWaiting(Event, name="standby.waiting"):
    """Another daemon leads. This one waits for the leader's lock, and takes over once it is free."""

    leader: Annotated[str | None, "the leader: host and pid"] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeaderElected(Event, name="leader.elected"):
    """This daemon is the leader: it sweeps every route, and dispatches from now on."""

    routes: Annotated[int, "number of routes"]
    waited_s: Annotated[float, "seconds as standby"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeaderLost(Event, name="leader.lost", level="warning"):
    """This daemon no longer leads, because its session is gone or in doubt."""

    reason: Reason
    led_s: Annotated[float, "seconds it led"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeaderResigned(Event, name="leader.resigned"):
    """This daemon hands over, for example at SIGTERM; a standby takes over at once."""

    led_s: Annotated[float, "seconds it led"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignalReceived(Event, name="signal.received", level="debug"):
    """A route was signalled and became dirty. Further signals until the dispatch are not logged."""

    route: Route


@dataclasses.dataclass(frozen=True, kw_only=True)
class DispatchPublished(Event, name="dispatch.published"):
    """The broker confirmed a route's message."""

    route: Route
    task_id: Annotated[str, "Celery's task id"]
    signals: Annotated[int, "signals that the dispatch coalesces"]
    waited_ms: Annotated[float, "milliseconds from the first of these signals to the broker's confirmation"]
    publish_ms: Annotated[float, "milliseconds of these inside the publish"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DispatchFailed(Event, name="dispatch.failed", level="error"):
    """The broker did not confirm a route's message. It is retried; logged once for each new error."""

    route: Route
    error: Annotated[str, "message of the broker or of Celery"]
    retry_in_s: RetryIn


@dataclasses.dataclass(frozen=True, kw_only=True)
class DispatchRecovered(Event, name="dispatch.recovered"):
    """A route's message was published again after failures; it covers all signals since."""

    route: Route
    failures: Annotated[int, "failed publishes in a row"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueueDispatched(Event, name="queue.dispatched"):
    """The broker confirmed the messages of claimed jobs."""

    claimed: Annotated[int, "jobs claimed since the last such event; other messages are published again"]
    published: Annotated[int, "messages confirmed"]
    claim_ms: Annotated[float, "milliseconds of the claim"]
    publish_ms: Annotated[float, "milliseconds of the publish"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueueStalled(Event, name="queue.stalled", level="warning"):
    """The messages of some jobs were published several times, and no worker started the jobs.

    If workers start other jobs of this Celery queue, a worker consumes these messages and cannot run them: it
    does not call ``pgreact.setup``, or does not know the task. Otherwise no worker consumes the queue. The
    messages are published again, each time after twice the delay.
    """

    lane: Annotated[str, "lane of the jobs"]
    queue: Annotated[str | None, "Celery queue of the messages, if known"]
    jobs: Annotated[int, "number of jobs"]
    sent: Annotated[int, "most publishes of one job's message"]
    consumed: Annotated[bool, "whether workers started jobs of the lane that were published later"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class QueueRecovered(Event, name="queue.recovered"):
    """The jobs of ``queue.stalled`` were started, or are gone."""

    lane: Annotated[str, "lane of the jobs"]
    queue: Annotated[str | None, "Celery queue of the messages, if known"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaneStalled(Event, name="lane.stalled", level="warning"):
    """A lane has ready jobs, but its limits leave no place for them, and no job was claimed for a minute."""

    lane: Annotated[str, "name of the lane"]
    running: Annotated[int, "jobs of the lane that a worker runs"]
    unstarted: Annotated[int, "jobs of the lane that are published, and not started"]
    stalled_s: Annotated[float, "seconds since the lane's last claim, or since it was first seen full"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaneRecovered(Event, name="lane.recovered"):
    """A lane of ``lane.stalled`` has a claim again, or no ready job."""

    lane: Annotated[str, "name of the lane"]
    stalled_s: Annotated[float, "seconds that the lane was stalled"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobRefused(Event, name="job.refused", level="warning"):
    """A job's message cannot be built, or the broker rejects it. The job is dead."""

    job: Annotated[int, "id of the job"]
    task: Annotated[str, "name of its task"]
    error: Annotated[str, "message of Celery or of the broker"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepFinished(Event, name="sweep.finished"):
    """The daemon looked for work without a signal. A backstop sweep is logged only if it finds some."""

    route: Route
    reason: Annotated[str, "elected, added, opened, resumed or backstop"]
    dispatch: Annotated[bool, "whether the sweep makes the route dirty"]
    took_ms: Annotated[float, "milliseconds of the ready query; 0 without one"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepFailed(Event, name="sweep.failed", level="warning"):
    """A route's ready query failed, so the sweep dispatches. Logged once for each new error."""

    route: Route
    error: Annotated[str, "message of PostgreSQL"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepRecovered(Event, name="sweep.recovered"):
    """A route's ready query succeeded again."""

    route: Route


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateClosed(Event, name="gate.closed"):
    """The gate of a route is closed: writers do not NOTIFY, the daemon polls."""

    route: Route
    reason: Reason


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateOpened(Event, name="gate.opened"):
    """The gate of a route is open: writers NOTIFY again."""

    route: Route
    reason: Reason
    closed_s: Annotated[float, "seconds that the gate was closed"]
    polls: Annotated[int, "polls while it was closed"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlightStarted(Event, name="flight.started"):
    """A worker started a route's task (single_flight = "run")."""

    route: Route
    task_id: Annotated[str, "Celery's task id"]
    waited_ms: Annotated[float, "milliseconds from the publish to the start"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlightEnded(Event, name="flight.ended"):
    """A route's task ended, or will not run (single_flight = "run")."""

    route: Route
    task_id: Annotated[str, "Celery's task id"]
    outcome: Annotated[
        str, "done, failed, lost (its worker died), expired (not started), dropped (another one waits)"
    ]
    took_ms: Annotated[float, "milliseconds from the publish to the end"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlightUnstarted(Event, name="flight.unstarted", level="warning"):
    """No worker that calls ``pgreact.setup`` started a route's task in time. Logged once, until one does."""

    route: Route
    task_id: Annotated[str, "Celery's task id"]
    hint: Annotated[str, "what to check"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RouteChanged(Event, name="route.changed"):
    """A committed change of ``pgreact.route`` is in force."""

    route: Route
    change: Annotated[str, "added, removed or changed"]
    keys: Annotated[list[str], "columns that changed"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RouteUnregistered(Event, name="route.unregistered", level="warning"):
    """No worker has registered a route's task: twice, workers were inspected, and none that replied knows it.

    The route's messages are published all the same, and the workers discard them. Logged once, until a worker
    knows the task. A worker with the pool ``solo`` replies between two tasks only; a worker without remote
    control does not reply.
    """

    route: Route
    task: Annotated[str, "name of its task"]
    workers: Annotated[int, "workers that replied"]
    hint: Annotated[str, "what to check"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RouteRegistered(Event, name="route.registered"):
    """A worker knows a route's task again."""

    route: Route
    task: Annotated[str, "name of its task"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimetableAcquired(Event, name="timetable.acquired"):
    """This process holds the timetable's lock: it fires the schedules from now on."""

    waited_s: Annotated[float, "seconds that it waited for the lock"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimetableWaiting(Event, name="timetable.waiting"):
    """Another process fires the schedules. This one waits for the lock, and takes over once it is free."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeliveryFailed(Event, name="delivery.failed", level="warning"):
    """The broker does not take messages of direct delivery. Retried until it does; logged once."""

    reason: Reason
    retry_in_s: RetryIn


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeliveryRecovered(Event, name="delivery.recovered"):
    """The broker takes messages of direct delivery again."""

    failures: Annotated[int, "failed attempts in a row"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SchedulePlanned(Event, name="schedule.planned"):
    """The next run of a schedule was computed: the schedule is new, or its recurrence was edited."""

    schedule: Schedule
    next_run_at: Annotated[str, "its next run, in UTC"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleFired(Event, name="schedule.fired"):
    """An occurrence was fired: its job is enqueued, or its message sent."""

    schedule: Schedule
    occurrence: Annotated[str, "nominal time of the occurrence, in UTC"]
    lateness_ms: Annotated[float, "milliseconds after it was due, jitter included"]
    job: Annotated[int | None, "id of the job"] = None
    task_id: Annotated[str | None, "Celery's task id, with direct delivery"] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleMisfired(Event, name="schedule.misfired", level="warning"):
    """Occurrences were found later than the schedule's grace, or were not fired.

    The policy leaves an occurrence out when a later one is due, too. That happens within the grace as well:
    after a pause of some seconds, or where the jitter is longer than the interval. ``overlap = false`` leaves
    an occurrence out while the job of the one before has not ended.
    """

    schedule: Schedule
    policy: Annotated[str, "coalesce, skip or all; overlap: the job before it has not ended"]
    missed: Annotated[int, "occurrences left out"]
    fired: Annotated[int, "occurrences fired now"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleReplanned(Event, name="schedule.replanned", level="warning"):
    """A schedule's next run was further ahead than its rule allows, since the clock had been ahead.

    Its next run is computed again from the present time. Occurrences that were fired early are fired again
    when they are due.
    """

    schedule: Schedule
    next_run_at: Annotated[str, "its next run, in UTC"]
    instead_of: Annotated[str | None, "its next run before; null: none"] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleFailed(Event, name="schedule.failed", level="error"):
    """A schedule stopped: its occurrences cannot be computed or sent. An edit restarts it."""

    schedule: Schedule
    error: Annotated[str, "the reason; also in its column last_error"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SchedulesApplied(Event, name="schedules.applied"):
    """``celery beat -S pgreact`` started, and updated its schedules from ``beat_schedule``."""

    added: Annotated[list[str], "names of new entries; at most 20, as in the other lists"]
    changed: Annotated[list[str], "names of changed entries"]
    removed: Annotated[list[str], "names of entries that are gone"]
    unchanged: Annotated[int, "number of unchanged entries; edits of their schedules are kept"]
    left: Annotated[list[str], "names of refused entries, see `schedule.refused`"]
    others: Annotated[
        int, "number of schedules of another origin, which this process also fires, counted up to 10,001"
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleRefused(Event, name="schedule.refused", level="error"):
    """An entry of ``beat_schedule`` was not imported; the other entries were."""

    schedule: Schedule
    error: Annotated[str, "the reason"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleEnded(Event, name="schedule.ended"):
    """A schedule has no further occurrence."""

    schedule: Schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class NotificationRejected(Event, name="notification.rejected", level="warning"):
    """A notification on pgreact's channel is not a signal. Logged at most every 10 seconds."""

    payload: Annotated[str, "payload of the first one, shortened"]
    backend_pid: Annotated[int, "pid of the PostgreSQL backend that sent it"]
    count: Annotated[int, "such notifications since the last event"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatementFailed(Event, name="statement.failed", level="error"):
    """A statement of the daemon failed, as a whole or for one row. Logged once for each kind of error.

    It is retried with growing pauses until `statement.recovered`; other work goes on.
    """

    statement: Annotated[str, "name of the statement (claim, published, fire, housekeeping …) or of the row"]
    error: Annotated[str, "message of PostgreSQL or Python, and a remedy"]
    kind: Annotated[
        str,
        "lost (session), transient, refused (a right or object is missing), data (a row) or fault (a bug)",
    ]
    retry_in_s: RetryIn


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatementRecovered(Event, name="statement.recovered"):
    """A statement of ``statement.failed`` succeeded, or its row is gone."""

    statement: Annotated[str, "as in statement.failed"]
    failures: Annotated[int, "failed attempts"]
    after_s: Annotated[float, "seconds since the first failure"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class WebStarted(Event, name="web.started"):
    """``pgreact web`` serves its pages. It connects to the database when a page is read."""

    address: Annotated[str, "URL of the pages"]
    auth: Annotated[str, "how users log in: none, basic or header"]
    database: Annotated[str, "host, port, database and user it connects to"]


_threshold = logging.DEBUG
_logger: Any = structlog.get_logger()


def shows(kind: type[Event]) -> bool:
    """Return whether events of a class are written: to check that is cheaper than to build one."""
    severity: int = getattr(logging, kind.level.upper())
    return severity >= _threshold


def emit(event: Event) -> None:
    """Write an event, if its level is not below the threshold."""
    level: int = getattr(logging, event.level.upper())
    if level < _threshold:
        return
    _logger.log(level, event.name, **vars(event))


def configure(form: Format, level: Level) -> None:
    """Send all logs to standard error; of other libraries, warnings and errors.

    Args:
        form: ``json``, ``console``, or ``auto``: console on a terminal and JSON elsewhere.
        level: The lowest level of pgreact's own events.
    """
    global _threshold, _logger  # noqa: PLW0603 - a process has one log
    _threshold = getattr(logging, level.upper())
    plain = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty() and not os.environ.get("NO_COLOR"))
        if plain
        else structlog.processors.JSONRenderer(default=str)
    )
    tail = (
        [_for_terminal, renderer] if plain else [structlog.processors.format_exc_info, _head_first, renderer]
    )
    structlog.configure(
        processors=[*shared, *tail],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    _logger = structlog.get_logger().bind()  # binding costs as much as writing
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def printable(text: str) -> str:
    """Escape control characters, except line feeds and tabs, so that a terminal shows them."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


# control characters except tab and line feed, and characters that change the direction of writing
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def _for_terminal(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    return {key: printable(value) if isinstance(value, str) else value for key, value in event.items()}


def _head_first(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Put the keys of every line before the event's own."""
    head = {"timestamp": event.pop("timestamp"), "level": event.pop("level"), "event": event.pop("event")}
    return head | event


def log_to(logger: str) -> None:
    """Send pgreact's events to a logger of ``logging``: for a process whose log another program configures.

    Args:
        logger: The logger's name; its present level is the threshold.
    """
    global _threshold, _logger  # noqa: PLW0603 - a process has one log
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


def catalogue() -> Iterator[str]:
    yield "# Log events"
    yield ""
    yield "Generated from `pgreact/logs.py` by `python -m pgreact.logs`; do not edit."
    yield ""
    yield "Every line begins with `timestamp` (UTC), `level` and `event`. A key, once released, is never"
    yield "renamed silently."
    for event in Event.__subclasses__():
        yield ""
        yield f"## `{event.name}` ({event.level})"
        yield ""
        yield inspect.cleandoc(event.__doc__ or "")
        yield ""
        hints = get_type_hints(event, include_extras=True)
        for field in dataclasses.fields(event):
            hint = hints[field.name]
            kind, meaning = get_args(hint)[:2] if get_origin(hint) is Annotated else (hint, "")
            shown = kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)
            yield f"- `{field.name}` ({shown}): {meaning}"


if __name__ == "__main__":
    sys.stdout.write("\n".join(catalogue()) + "\n")
