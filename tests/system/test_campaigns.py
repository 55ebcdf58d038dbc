"""Campaigns from another client's event to an answer of Qdrant, through a kill and a restart."""

import json
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest

from consumers.index import Conditions, Names, Space
from consumers.local_qdrant import QdrantAddress
from consumers.qdrant_index import QdrantIndex
from consumers.tally import Tally
from stream.clock import SystemClock
from stream.ordering import OrderingConfig
from stream.simulator import Simulator, SimulatorConfig
from stream.snapshot import SnapshotStore
from tests.system.conftest import Goat, MakeTopic, Produce, settings_of

MESSAGES = 2_000
PATIENCE_S = 60.0
COLLECTION = "campaigns"
NAMES = Names.of(COLLECTION)


@pytest.fixture
def index(qdrant: QdrantAddress) -> Iterator[QdrantIndex]:
    index = QdrantIndex(qdrant.url, grpc_port=qdrant.grpc_port, api_key=qdrant.api_key)
    yield index
    index.close()


@pytest.fixture
def programs(
    kafka: str, qdrant: QdrantAddress, make_topic: MakeTopic, tmp_path: Path
) -> dict[str, object]:
    model = '{"dim": 16, "first_epochs": 1, "epochs": 1}'
    more = {"collection": COLLECTION, "snapshot_every_s": 0.5, "model": model}
    return settings_of(kafka, qdrant, make_topic(2), tmp_path / "state", **more)


def event(kind: str, number: object, **more: Any) -> bytes:
    at = datetime.now(UTC).isoformat()
    return json.dumps({"type": kind, "event_id": f"x{number}", "occurred_at": at, **more}).encode()


def eventually(what: Callable[[], bool], process: Any) -> float:
    """Ask until it is so; how long that took, seconds."""
    began = monotonic()
    while not what():
        assert process.poll() is None, f"goat ended with {process.returncode}"
        assert monotonic() < began + PATIENCE_S, "it did not happen"
    return monotonic() - began


def spent(state: Path) -> int:
    """Millionths that the newest snapshot says were spent."""
    store = SnapshotStore(state / "graph", SystemClock())
    loaded = store.load(ordering=OrderingConfig(lateness_us=86_400_000_000))
    assert loaded is not None
    assert Tally.from_json(loaded.extra["tally"]).balanced  # type: ignore[arg-type]
    return loaded.graph.ledger.spend.account("spring").total


@pytest.mark.slow
def test_a_pause_is_seen_by_searches_and_a_kill_charges_nothing_twice(
    programs: dict[str, object], produce: Produce, goat: Goat, index: QdrantIndex
) -> None:
    topic, state = str(programs["topic"]), Path(str(programs["state"]))
    start_us = int((datetime.now(UTC) - timedelta(hours=12)).timestamp() * 1e6)
    world = SimulatorConfig(MESSAGES, users=60, items=40, campaigns=0, start_us=start_us)
    produce(topic, list(Simulator(world, np.random.default_rng(5))))
    assert goat("ingest", "--quiet", "--limit", MESSAGES, **programs).wait(120) == 0
    assert goat("finetune", "--once", **programs).wait(180) == 0

    def found(name: str) -> bool:
        answer = index.candidates("user-1", 200, Conditions(), names=NAMES)
        return name in {c.id for c in answer}

    def told(**more: Any) -> None:
        number = f"c{monotonic()}"
        produce(topic, [event("campaign", number, campaign_id="spring", **bid, **more)])

    def click(number: int) -> bytes:
        return event("ad_click", number, user_id=f"user-{number % 50}", item_id="offer")

    bid = {"bid": 0.25, "bid_for": "click", "currency": "EUR"}
    running = goat("ingest", "--quiet", **programs)
    told(daily_budget=1_000.0)
    vector = [1.0] * 32
    produce(
        topic,
        [event("item", "offer", item_id="offer", campaign_id="spring", vectors={"text": vector})],
    )
    eventually(lambda: NAMES.items in index.aliases() and found("offer"), running)

    told(paused=True)
    assert eventually(lambda: not found("offer"), running) < 10
    paused = _sequence(index)
    produce(topic, [click(n) for n in range(20)])  # the item is written anew, and stays out
    eventually(lambda: _sequence(index) > paused, running)
    assert not found("offer")
    told(daily_budget=1_000.0)
    eventually(lambda: found("offer"), running)

    # Killed amid ad clicks, wherever that finds it, and started again.
    produce(topic, [click(n) for n in range(20, 400)])
    running.kill()
    running.wait()
    running = goat("ingest", "--quiet", **programs)
    produce(topic, [click(n) for n in range(300, 800)])  # a hundred of them once more
    told(daily_budget=200.0)
    eventually(lambda: not found("offer"), running)  # 800 clicks at 0.25 are the budget
    running.send_signal(signal.SIGTERM)
    assert running.wait(30) == 0
    assert spent(state) == 800 * 250_000


def _sequence(index: QdrantIndex) -> int:
    """Of the last write of the offer."""
    [stored] = index.fetch(index.aliases()[NAMES.items], Space.ITEMS, ["offer"])
    assert stored is not None
    return int(str(stored.payload["seq"]))
