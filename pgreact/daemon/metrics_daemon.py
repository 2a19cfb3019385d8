"""The metrics that a daemon reads from its own memory."""

from pgreact import __version__
from pgreact.daemon.metrics import Exposition
from pgreact.daemon.state import DaemonState, RouteReading
from pgreact.dispatch.route import QUEUE_ROUTE


def put_daemon(exposition: Exposition, state: DaemonState) -> None:
    """Add the families of sources ``daemon`` and ``leader``; the latter only while it leads.

    Args:
        exposition: Gets them.
        state: Of the daemon.
    """
    exposition.put("build", 1, version=__version__)
    exposition.put("leader", state.role == "leader")
    exposition.put("elections", state.elections)
    exposition.put("listener_up", state.hearing is not None and state.hearing.hears)
    if state.hearing is not None and state.hearing.probe_s is not None:
        exposition.put("probe_seconds", state.hearing.probe_s)
    if state.routes is None:
        return
    for route in state.routes():
        _put_route(exposition, route)
    exposition.put("republished", state.queue.republished)
    exposition.put_histogram("schedule_lateness_seconds", state.timetable.lateness)
    exposition.put("misfires", state.timetable.misfires)


def _put_route(exposition: Exposition, reading: RouteReading) -> None:
    route, measures = reading.name, reading.measures
    exposition.put("signals", measures.signals, route=route)
    result, done = (
        ("claimed", measures.claimed) if route == QUEUE_ROUTE else ("published", measures.published)
    )
    exposition.put("dispatches", done, route=route, result=result)
    exposition.put("dispatches", measures.failed, route=route, result="failed")
    exposition.put_histogram("dispatch_wait_seconds", measures.wait, route=route)
    exposition.put_histogram("publish_seconds", measures.publish, route=route)
    exposition.put("route_dirty_seconds", reading.dirty_s, route=route)
    exposition.put("gate_closed", reading.gate_closed, route=route)
    for reason, finds in measures.sweep_finds.items():
        exposition.put("sweep_finds", finds, route=route, reason=reason)
