"""Tracing without a server: nothing is imported or lost without a tracer provider, or with a broken one."""

import subprocess
import sys
from typing import Any

import pytest
from celery import Celery
from opentelemetry import trace

from pgreact import tracing
from pgreact.broker.connection import BrokerConnection
from pgreact.broker.prepared_message import PreparedMessage
from pgreact.wakeup.notification import Signal, parse

TRACE = "0af7651916cd43dd8448eb211c80319c"
CARRIER = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}


def test_opentelemetry_is_not_imported_where_nothing_traces() -> None:
    script = """
import sys
import pgreact
from pgreact import tracing
from pgreact.queue.payload import payload
assert payload(pgreact.Job("t")) == '{"task":"t","args":[],"kwargs":{}}', payload(pgreact.Job("t"))
with tracing.publishing("p", {"traceparent": "x"}, {}, None) as headers:
    assert headers == {"traceparent": "x"}
with tracing.continuing("s", None, {}):
    pass
tracing.record("c", 0.1, {})
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", script], check=True)


class Broken:
    """A tracer provider whose sampler fails."""

    def get_tracer(self, *_: Any) -> "Broken":
        return self

    def start_span(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("as told")


def test_broken_tracer_affects_neither_message_nor_job(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", Broken)
    with tracing.publishing("p", CARRIER, {}, None) as headers:
        assert headers == CARRIER
    with tracing.continuing("s", None, {}):
        pass
    tracing.record("c", 0.1, {})
    assert [record.getMessage() for record in caplog.records] == ["a span cannot be recorded"] * 3


def test_error_of_a_publish_is_raised_within_its_span(monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    publish = tracing.publishing("p", CARRIER, {}, 1.5, [CARRIER] * 200)
    headers = publish.__enter__()
    assert trace.get_current_span().get_span_context().trace_id == int(TRACE, 16)
    error = OSError("as told")
    assert not publish.__exit__(OSError, error, None)
    (span,) = exporter.get_finished_spans()
    assert span.context is not None
    assert span.parent is not None
    assert headers == {"traceparent": f"00-{TRACE}-{span.context.span_id:016x}-01"}
    assert (f"{span.parent.span_id:016x}", span.start_time) == ("00f067aa0ba902b7", 1_500_000_000)
    assert len(span.links) == tracing.MAX_LINKS
    assert not span.status.is_ok
    assert not trace.get_current_span().get_span_context().is_valid


def test_message_has_the_jobs_context_where_nothing_traces() -> None:
    app = Celery("a", broker="memory://", set_as_current=False)
    connection = BrokerConnection(app, 20)
    message = PreparedMessage(connection, "t", "1", {"queue": "traced", "headers": {"mine": "kept"}})
    with message.traced(CARRIER, {}) as headers:
        message.send(connection.producer, headers)
    with PreparedMessage(connection, "t", "2", {"headers": CARRIER}).traced({}, {}) as own:
        assert own == CARRIER
    connection.close()
    with app.connection_for_read() as reading:
        received = reading.default_channel.basic_get("traced", no_ack=True)
    assert received.headers["traceparent"] == CARRIER["traceparent"]
    assert received.headers["mine"] == "kept"


@pytest.mark.parametrize(
    ("payload", "parsed"),
    [
        (f"7 {CARRIER['traceparent']}", Signal(7, CARRIER["traceparent"])),
        (f"2147483648 {CARRIER['traceparent']}", None),
        (f"7 {CARRIER['traceparent']} ", None),
        ("7 ", None),
        ("7 x", None),
    ],
)
def test_signal_may_name_its_trace(payload: str, parsed: Signal | None) -> None:
    assert parse(payload) == parsed
