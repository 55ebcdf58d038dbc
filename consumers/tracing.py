"""Traces over OTLP, where somebody collects them: off unless ``GOAT_OTLP`` names an address.

Spans are of requests for candidates, of the searches in them, and of the steps of the fast path. A
request that comes with a ``traceparent`` (W3C) goes on in its caller's trace.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from consumers.errors import SettingsError

_tracer: Any = None
Attribute = str | int | float | bool


def start(url: str, program: str) -> Callable[[], None]:
    """Send spans to this address from here on; what the returned function does is send the rest.

    Parameters
    ----------
    url : str
        Of OTLP over HTTP, with its path: ``http://127.0.0.1:4318/v1/traces``.
    program : str
        The verb that runs.

    Raises
    ------
    SettingsError
        If the extra `otel` is not installed.
    """
    global _tracer  # noqa: PLW0603 - one for the process, as a logger is
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(f"--otlp needs the extra otel: {error}") from error
    provider = TracerProvider(resource=Resource.create({"service.name": f"goat-{program}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
    _tracer = provider.get_tracer("goatstream")

    def stop() -> None:
        global _tracer  # noqa: PLW0603
        _tracer = None
        provider.shutdown()

    return stop


@contextmanager
def span(
    name: str, headers: Mapping[str, str] | None = None, **attributes: Attribute
) -> Generator[None]:
    """What happens inside the block, as one span; nothing at all where traces are off.

    Parameters
    ----------
    headers : of a request, whose trace it goes on in
    """
    if _tracer is None:
        yield
        return
    from opentelemetry.propagate import extract

    context = None if headers is None else extract(headers)
    with _tracer.start_as_current_span(name, context=context, attributes=attributes):
        yield
