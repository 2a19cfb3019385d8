"""A Celery application that traces into a file, in the daemon and in the worker."""

import os
from pathlib import Path
from typing import Any

from celery import Celery, Task
from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

import pgreact

provider = TracerProvider()
provider.add_span_processor(
    SimpleSpanProcessor(
        ConsoleSpanExporter(
            out=Path(os.environ["TRACE_FILE"]).open("a", buffering=1),  # noqa: SIM115 - open until the end
            formatter=lambda span: span.to_json(indent=None) + "\n",
        )
    )
)
trace.set_tracer_provider(provider)
CeleryInstrumentor().instrument()

app = Celery("traced", broker=os.environ.get("TASK_BROKER"))
app.conf.update(
    task_ignore_result=True,
    task_default_queue=os.environ.get("TASK_QUEUE", "celery"),
    worker_hijack_root_logger=False,
)
pgreact.setup(app)


@app.task
def plain(*_: Any, **__: Any) -> None:
    """Do nothing."""


@app.task(bind=True)
def failing_once(self: "Task[Any, Any]") -> None:
    """Fail at the first attempt."""
    if self.request.pgreact_attempt == 1:  # type: ignore[attr-defined]
        raise RuntimeError("as told")
