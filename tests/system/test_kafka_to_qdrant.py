"""From another client's event to an answer of Qdrant, through separate processes and real servers.

An ad system is played by qdrant-client alone: it knows the aliases, the rule by which point ids are
made, and a user's id.
"""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from qdrant_client import QdrantClient
from qdrant_client import models as q

from consumers.index import VECTOR, Names, Space, point_id
from consumers.local_qdrant import QdrantAddress
from stream.simulator import Simulator, SimulatorConfig
from tests.system.conftest import settings_of

Goat = Callable[..., "subprocess.Popen[bytes]"]
Produce = Callable[[str, Sequence[bytes]], None]

MESSAGES = 4_000
PATIENCE_S = 60.0
COLLECTION = "kafka-to-qdrant"
NAMES = Names.of(COLLECTION)


@pytest.fixture
def ad_system(qdrant: QdrantAddress) -> Iterator[QdrantClient]:
    client = QdrantClient(
        url=qdrant.url, grpc_port=qdrant.grpc_port, prefer_grpc=True, check_compatibility=False
    )
    yield client
    client.close()


@pytest.fixture
def programs(
    kafka: str, qdrant: QdrantAddress, make_topic: Callable[..., str], tmp_path: Path
) -> dict[str, object]:
    """Settings of the processes."""
    return settings_of(kafka, qdrant, make_topic(2), tmp_path / "state", collection=COLLECTION)


def candidates(client: QdrantClient, user: str, k: int, *unlike: q.Condition) -> list[str]:
    """Ids of the best items for a user, as any ad system would ask."""
    found = client.query_points(
        NAMES.items,
        query=point_id(Space.USERS, user),
        using=VECTOR,
        lookup_from=q.LookupLocation(collection=NAMES.users, vector=VECTOR),
        query_filter=q.Filter(must_not=list(unlike)),
        limit=k,
        with_payload=["id"],
    )
    return [str((point.payload or {})["id"]) for point in found.points]


def vector_of(client: QdrantClient, user: str) -> np.ndarray:
    [point] = client.retrieve(NAMES.users, [point_id(Space.USERS, user)], with_vectors=True)
    assert isinstance(point.vector, dict)
    return np.array(point.vector[VECTOR])


def eventually(what: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    """Ask until it is so; a process that ends meanwhile ends the wait."""
    until = monotonic() + PATIENCE_S
    while not what():
        assert process.poll() is None, f"goat ended with {process.returncode}"
        assert monotonic() < until, "it did not happen"


def is_there(client: QdrantClient, user: str) -> bool:
    if NAMES.users not in {alias.alias_name for alias in client.get_aliases().aliases}:
        return False
    return bool(client.retrieve(NAMES.users, [point_id(Space.USERS, user)]))


def click(user: str, item: str, number: int) -> bytes:
    event = {
        "type": "click",
        "event_id": f"{user}-{item}-{number}",
        "occurred_at": datetime.now(UTC).isoformat(),
        "user_id": user,
        "item_id": item,
    }
    return json.dumps(event).encode()


@pytest.mark.slow
def test_an_event_enters_a_vector_changes_and_a_search_finds_it(
    programs: dict[str, object], produce: Produce, goat: Goat, ad_system: QdrantClient
) -> None:
    topic, state = str(programs["topic"]), Path(str(programs["state"]))
    this_morning_us = int(datetime.now(UTC).timestamp() * 1e6) - 12 * 3_600_000_000
    world = SimulatorConfig(
        MESSAGES, users=120, items=100, new_items=0.0, removed_items=0.0, start_us=this_morning_us
    )
    produce(topic, list(Simulator(world, np.random.default_rng(11))))
    first = goat(
        "ingest", "--quiet", "--limit", MESSAGES, "--json", state / "first.json", **programs
    )
    assert first.wait(120) == 0
    assert json.loads((state / "first.json").read_text())["applied"] == MESSAGES
    assert goat("finetune", "--once", **programs).wait(180) == 0

    # From here on the fast path runs, and nothing but it: the version is adopted and published.
    running = goat("ingest", "--quiet", **programs)
    eventually(lambda: is_there(ad_system, "user-1"), running)

    # A user nobody has ever seen clicks one item: vector and candidates are there.
    produce(topic, [click("newcomer", "item-3", 0)])
    eventually(lambda: is_there(ad_system, "newcomer"), running)
    after_one, vector = candidates(ad_system, "newcomer", 10), vector_of(ad_system, "newcomer")
    assert len(after_one) == 10

    # Then others, of the taste least like it: vector and candidates turn to them.
    [least] = candidates_least_like(ad_system, vector)
    produce(topic, [click("newcomer", least, number) for number in range(1, 4)])
    eventually(lambda: not np.allclose(vector_of(ad_system, "newcomer"), vector), running)
    assert least not in after_one
    eventually(lambda: least in candidates(ad_system, "newcomer", 10), running)

    # An ad system filters as it likes.
    seen = q.FieldCondition(key="id", match=q.MatchAny(any=[least, "item-3"]))
    assert not {least, "item-3"} & set(candidates(ad_system, "newcomer", 10, seen))

    # A removed item is gone from every answer; an erased user is not known any more.
    removal = {
        "type": "item_removed", "event_id": "gone", "item_id": least,
        "occurred_at": datetime.now(UTC).isoformat(),
    }  # fmt: skip
    erasure = {
        "type": "erase_user", "event_id": "forget", "user_id": "user-1",
        "occurred_at": datetime.now(UTC).isoformat(),
    }  # fmt: skip
    produce(topic, [json.dumps(removal).encode(), json.dumps(erasure).encode()])
    eventually(lambda: least not in candidates(ad_system, "newcomer", 100), running)
    eventually(lambda: not has_vector(ad_system, "user-1"), running)

    running.send_signal(signal.SIGTERM)
    assert running.wait(30) == 0


def candidates_least_like(client: QdrantClient, vector: np.ndarray) -> list[str]:
    found = client.query_points(
        NAMES.items, query=(-vector).tolist(), using=VECTOR, limit=1, with_payload=["id"]
    )
    return [str((point.payload or {})["id"]) for point in found.points]


def has_vector(client: QdrantClient, user: str) -> bool:
    points = client.retrieve(NAMES.users, [point_id(Space.USERS, user)], with_vectors=True)
    return any(point.vector for point in points)
