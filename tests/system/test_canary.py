"""Canaries through real servers: timed while the fast path runs, else lost and counted."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest

from consumers.canaries import STAMPS, canary_id
from consumers.index import Names, Space
from consumers.local_process import free_ports
from consumers.local_qdrant import QdrantAddress
from consumers.qdrant_index import QdrantIndex
from consumers.status import read_status
from stream.simulator import Simulator, SimulatorConfig
from tests.system.conftest import settings_of

Goat = Callable[..., "subprocess.Popen[bytes]"]
Produce = Callable[[str, Sequence[bytes]], None]
MESSAGES = 1_500
PATIENCE_S = 60.0


class Figures:
    """What the server tells Prometheus."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"

    def __call__(self, name: str) -> float:
        try:
            text = httpx.get(self._url, timeout=10.0).text
        except httpx.TransportError:  # it does not listen yet
            return 0.0
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0


def eventually(what: Callable[[], bool], *processes: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + PATIENCE_S
    while not what():
        assert all(process.poll() is None for process in processes), "a program has ended"
        assert time.monotonic() < until, "it did not happen"


@pytest.fixture
def begun(
    kafka: str, qdrant: QdrantAddress, make_topic: Callable[..., str], tmp_path: Path
) -> dict[str, object]:
    """Settings of programs over a topic of two partitions."""
    topic = make_topic(2)
    more = {"collection": f"canary-{topic}", "served_topic": f"{topic}.served"}
    return settings_of(kafka, qdrant, topic, tmp_path / "state", **more)


@pytest.fixture
def index(qdrant: QdrantAddress, begun: dict[str, object]) -> Iterator[QdrantIndex]:
    made = QdrantIndex(qdrant.url, grpc_port=qdrant.grpc_port, api_key=qdrant.api_key)
    yield made
    prefix = str(begun["collection"])
    made.point(dict.fromkeys(a for a in made.aliases() if a.startswith(prefix)))
    for name in (n for n in made.collections() if n.startswith(prefix)):
        made.drop(name)
    made.close()


@pytest.mark.slow
def test_a_canary_is_timed_and_a_stopped_ingestor_noticed(
    begun: dict[str, object], index: QdrantIndex, produce: Produce, goat: Goat
) -> None:
    state, [port] = Path(str(begun["state"])), free_ports(1)
    users = Names.of(str(begun["collection"])).users
    world = SimulatorConfig(MESSAGES, users=60, items=50, new_items=0.0, removed_items=0.0)
    produce(str(begun["topic"]), list(Simulator(world, np.random.default_rng(3))))
    told = "--quiet", "--limit", MESSAGES, "--json", state / "first.json"
    assert goat("ingest", *told, **begun).wait(120) == 0
    assert goat("finetune", "--once", **begun).wait(180) == 0
    first = json.loads((state / "first.json").read_text())

    ingest = goat("ingest", "--quiet", **begun)
    flying = {"canary_every_s": 0.5, "canary_patience_s": 5}
    serve = goat("serve", "--port", port, "--unguarded", **begun, **flying)
    figure = Figures(port)
    eventually(lambda: figure("goat_canary_seconds_count") >= 8, ingest, serve)
    seconds = figure("goat_canary_seconds_sum") / figure("goat_canary_seconds_count")
    assert 0 < seconds < 5

    # They are users of the live collection, one a partition, as of their last event.
    stored = index.fetch(
        index.aliases()[users], Space.USERS, [canary_id(0), canary_id(1), canary_id(2)]
    )
    assert [point is not None for point in stored] == [True, True, False]
    assert all(point.payload[STAMPS] for point in stored if point is not None)

    # Nothing else has come, and nothing else knows of them.
    now = read_status(state)
    assert now is not None
    for name in ("kinds", "reasons", "users", "items", "edges"):
        assert getattr(now, name) == first[name], name
    assert now.events_in > first["events_in"] == MESSAGES

    lost = 'goat_canaries_lost_total{why="unseen"}'
    before = figure(lost)
    ingest.send_signal(signal.SIGTERM)
    assert ingest.wait(60) == 0
    eventually(lambda: figure(lost) >= before + 4, serve)
    seen = figure("goat_canary_seconds_count")

    # It comes back: so do they.
    again = goat("ingest", "--quiet", **begun)
    eventually(lambda: figure("goat_canary_seconds_count") > seen, again, serve)
    for process in (again, serve):
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
