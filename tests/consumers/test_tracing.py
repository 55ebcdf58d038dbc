"""Traces: none unless asked for, and then sent to whoever listens at the address."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from typer.testing import CliRunner

from consumers import tracing
from consumers.cli import app
from consumers.index import VectorIndex
from tests.consumers.serving_http import make_site
from tests.consumers.serving_parts import make_parts

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Collector(HTTPServer):
    """Takes what is sent over OTLP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: dict[str, list[Span]] = {}
        self.url = f"http://127.0.0.1:{self.server_port}/v1/traces"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        body = self.rfile.read(int(self.headers["content-length"]))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            told = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.server.spans.setdefault(told["service.name"], []).extend(scope.spans)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_request_goes_on_in_its_callers_trace_and_its_search_in_it(
    index: VectorIndex, tmp_path: Path, collector: Collector
) -> None:
    site = make_site(make_parts(index), tmp_path)
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    stop = tracing.start(collector.url, "serve")
    answer = site.client.post("/v1/candidates", json={"user_id": "u1"}, headers=headers)
    stop()
    site.client.post("/v1/candidates", json={"user_id": "u1"}, headers=headers)
    spans = {span.name: span for span in collector.spans["goat-serve"]}
    assert set(spans) == {"POST /v1/candidates", "search"}
    assert len(collector.spans["goat-serve"]) == 2, "nothing after the end"
    request, search = spans["POST /v1/candidates"], spans["search"]
    assert request.trace_id.hex() == search.trace_id.hex() == TRACE
    assert search.parent_span_id == request.span_id
    noted = {a.key: a.value.string_value for a in request.attributes}
    assert noted["request_id"] == answer.headers["x-request-id"]


def test_the_fast_path_shows_its_steps(tmp_path: Path, collector: Collector) -> None:
    words = ["run", "--state", str(tmp_path), "--limit", "300", "--quiet"]
    done = CliRunner().invoke(app, ["--otlp", collector.url, *words])
    assert done.exit_code == 0, done.stderr
    assert {span.name for span in collector.spans["goat-run"]} == {"take", "publish", "commit"}
