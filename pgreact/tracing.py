"""OpenTelemetry: spans of pgreact, and the context that a job carries from its enqueue to its task.

No function here imports OpenTelemetry. A process traces once other code has imported it and set a tracer
provider: the application's module, ``opentelemetry-instrument``, or an agent. Until then each function costs
one look into ``sys.modules``.

A job's row keeps its context as W3C headers, whichever propagators the process uses. A message gets those of
the process's propagators.
"""

import contextlib
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, Tracer

Carrier = Mapping[str, str]
Attributes = Mapping[str, str | int | float | bool]

MAX_LINKS = 128  # of a span: the limit of OpenTelemetry's SDK
_STORED = ("traceparent", "tracestate", "baggage")  # what pgreact.trace_context keeps


def active() -> bool:
    """Return whether this process traces."""
    return _tracer() is not None


def current() -> dict[str, str] | None:
    """Return the context of the active span, as W3C headers; ``None``: no span is active."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or not trace.get_current_span().get_span_context().is_valid:
        return None
    from opentelemetry import propagate
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    propagate.inject(carrier)  # adds baggage, unless the process propagates none
    TraceContextTextMapPropagator().inject(carrier)
    return stored(carrier)


def stored(headers: Mapping[str, object]) -> dict[str, str]:
    """Return the W3C headers among those of a message."""
    return {name: value for name in _STORED if isinstance(value := headers.get(name), str)}


def record(name: str, seconds: float, attributes: Attributes, links: Iterable[Carrier] = ()) -> None:
    """Record a span that ends now, without a parent.

    Args:
        name: Of the span.
        seconds: How long it lasted.
        attributes: Of the span.
        links: Contexts that it is related to; those beyond :data:`MAX_LINKS` are left out.
    """
    if (tracer := _tracer()) is not None:
        began = time.time_ns() - int(seconds * 1e9)
        with _harmless():
            span = tracer.start_span(
                name, _context({}), start_time=began, attributes=attributes, links=_links(links)
            )
            span.end()


@contextlib.contextmanager
def publishing(
    name: str, carrier: Carrier, attributes: Attributes, ready: float | None, links: Iterable[Carrier] = ()
) -> Iterator[Carrier]:
    """Record the publish of a message as a span that is active meanwhile, for instrumentations of Celery.

    Args:
        name: Of the span.
        carrier: The context of its parent, as W3C headers; empty: it begins a trace.
        attributes: Of the span.
        ready: When the message could have been published, in seconds since 1970: its start; ``None``: now.
        links: As in :func:`record`.

    Yields:
        The headers that the message needs so that its task continues the trace; without a tracer provider
        those of its parent.
    """
    if (tracer := _tracer()) is None:
        yield carrier
        return
    headers = dict(carrier)
    span = parent = None
    with _harmless():
        from opentelemetry import propagate
        from opentelemetry.trace import SpanKind, set_span_in_context

        parent, now = _context(carrier), time.time_ns()
        span = tracer.start_span(
            name,
            parent,
            kind=SpanKind.PRODUCER,
            attributes=attributes,
            links=_links(links),
            start_time=now if ready is None else min(now, int(ready * 1e9)),
        )
        propagate.inject(headers, set_span_in_context(span, parent))
    with _active(span, parent):
        yield headers


@contextlib.contextmanager
def continuing(name: str, headers: Any, attributes: Attributes) -> Iterator[None]:
    """Record a span within the active one, or else within that of a message.

    Args:
        name: Of the span.
        headers: An object whose attributes are the headers of the message: a request of Celery.
        attributes: Of the span.
    """
    if (tracer := _tracer()) is None:
        yield
        return
    span = parent = None
    with _harmless():
        from opentelemetry.context import get_current
        from opentelemetry.trace import get_current_span

        parent = get_current()
        if not get_current_span().get_span_context().is_valid:
            parent = _context(stored({header: getattr(headers, header, None) for header in _STORED}))
        span = tracer.start_span(name, parent, attributes=attributes)
    with _active(span, parent):
        yield


def _tracer() -> "Tracer | None":
    """Return pgreact's tracer; ``None``: no tracer provider is set."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    with _harmless():  # it may load the provider that the environment names
        provider = trace.get_tracer_provider()
        if not isinstance(provider, trace.ProxyTracerProvider):
            found: Tracer = provider.get_tracer("pgreact")
            return found
    return None


@contextlib.contextmanager
def _active(span: "Span | None", parent: "Context | None") -> Iterator[None]:
    """Make a span the active one, and end it."""
    if span is None or parent is None:
        yield
        return
    from opentelemetry.context import attach, detach
    from opentelemetry.trace import use_span

    token = attach(parent)  # for its baggage
    try:
        with use_span(span):
            yield
    finally:
        detach(token)
        with _harmless():
            span.end()


@contextlib.contextmanager
def _harmless() -> Iterator[None]:
    """Log an error of a sampler, processor or propagator: it must not affect a message or a job."""
    try:
        yield
    except Exception:
        logging.getLogger("pgreact.tracing").exception("a span cannot be recorded")


def _context(carrier: Carrier) -> "Context":
    """Return the context of W3C headers, and nothing of the active one."""
    from opentelemetry.baggage.propagation import W3CBaggagePropagator
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    found = TraceContextTextMapPropagator().extract(carrier, Context())
    return W3CBaggagePropagator().extract(carrier, found)


def _links(carriers: Iterable[Carrier]) -> "list[Link]":
    from opentelemetry.trace import Link, get_current_span

    links: list[Link] = []
    for carrier in carriers:
        found = get_current_span(_context(carrier)).get_span_context()
        if found.is_valid and len(links) < MAX_LINKS:
            links.append(Link(found))
    return links
