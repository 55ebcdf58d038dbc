"""What the OpenAPI document says, and that whatever it allows is answered as it says."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from consumers.index import VectorIndex
from tests.consumers.serving_http import Site, make_site
from tests.consumers.serving_parts import make_parts

EXAMPLES = 5
SECRET = "0123456789abcdef"
LATE_US = 2_911_900 * 86_400_000_000  # to the last years that a time can have
PATIENCE_S = 30.0
# An event may contradict itself, or name a zone that is none: no JSON Schema can say that.
CONFIG = """
[[operations]]
include-path = "/v1/events"
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", 409, 422]
"""


@pytest.fixture
def site(index: VectorIndex, tmp_path: Path) -> Site:
    """A server after all events that a tool may think of, with a key for everything."""
    parts = make_parts(index)
    parts.clock.advance(LATE_US)
    return make_site(parts, tmp_path, keys=f"tool read,events,operate {SECRET}")


@pytest.fixture
def url(site: Site) -> Iterator[str]:
    """The site on a free loopback port."""
    config = uvicorn.Config(site.gate, port=0, interface="asgi3", log_level="error", lifespan="off")  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    until = time.monotonic() + PATIENCE_S
    while not server.started:
        assert time.monotonic() < until and thread.is_alive()
    [listening] = server.servers[0].sockets
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_every_operation_is_documented_with_its_role_and_its_problems(site: Site) -> None:
    document = site.client.get("/openapi.json").json()
    known = set(document["components"]["schemas"])
    assert known >= {"Event", "ProblemDocument", "CandidatesRequest"}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["description"]
            open_ = path in ("/healthz", "/readyz")
            assert ("security" in operation) is not open_
            statuses = set(operation["responses"])
            assert "500" in statuses and (open_ or {"401", "403", "429"} <= statuses)
            for status, response in operation["responses"].items():
                if status.startswith(("4", "5")):
                    assert list(response["content"]) == ["application/problem+json"]


@pytest.mark.slow
def test_whatever_the_document_allows_is_answered_as_it_says(url: str, tmp_path: Path) -> None:
    tool = Path(sys.executable).with_name("schemathesis")
    words = ["run", f"{url}/openapi.json", "--max-examples", str(EXAMPLES), "--seed", "1"]
    words += ["--checks", "all", "--no-color", "--generation-database", "none"]
    words += ["-H", f"Authorization: Bearer {SECRET}"]
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    found = subprocess.run(
        [tool, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    said = "\n".join(line[:300] for line in (found.stdout + found.stderr).splitlines())
    assert found.returncode == 0, said[-8_000:]
