"""The verdict over a soak: what the oracle makes of the topic, against what there is."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from confluent_kafka import Consumer, TopicPartition
from freshness import NAMES, PARTITIONS, TOPIC, say

from consumers import wiring
from consumers.index import Space
from consumers.qdrant_index import QdrantIndex
from consumers.settings import Settings
from consumers.tally import Tally
from consumers.versions import Versions
from stream.clock import SystemClock
from stream.joins import Transition
from stream.snapshot import SnapshotStore
from tests.oracle.graph import Edge
from tests.oracle.stream import StreamOracle, folded

COUNTS = ("events_in", "applied", "duplicates", "dead_letters", "late", "capped")


def ends(bootstrap: str) -> int:
    """Messages in the topic."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "soak-ends", "log_level": 0})
    try:
        return sum(
            consumer.get_watermark_offsets(TopicPartition(TOPIC, n), timeout=30)[1]
            for n in range(PARTITIONS)
        )
    finally:
        consumer.close()


def read_all(bootstrap: str) -> Iterator[tuple[int, bytes]]:
    """Partition and message, in the order of the topic; one partition after another."""
    settings = {"bootstrap.servers": bootstrap, "group.id": "soak-oracle", "log_level": 0}
    for number in range(PARTITIONS):
        consumer = Consumer({**settings, "enable.auto.commit": False})
        where = TopicPartition(TOPIC, number, 0)
        end = consumer.get_watermark_offsets(where, timeout=30)[1]
        consumer.assign([where])
        at = 0
        while at < end:
            for message in consumer.consume(10_000, 1.0):
                at = (message.offset() or 0) + 1
                yield number, message.value() or b""
        consumer.close()


def verdict(bootstrap: str, settings: Settings) -> dict[str, Any]:
    """What is lost, doubled or older than it may be."""
    oracle = StreamOracle(wiring.graph_of(settings), wiring.ordering_of(settings))
    for number, message in read_all(bootstrap):
        oracle.feed(number, message)
    state = SnapshotStore(settings.graph_dir, SystemClock()).load(
        wiring.graph_of(settings), wiring.ordering_of(settings)
    )
    if state is None:
        raise SystemExit("there is no snapshot")
    edges, expected = Counter(state.graph.edges_by_name()), Counter(oracle.edges())
    tally = Tally.from_json(state.extra["tally"])  # type: ignore[arg-type]
    said = Counter({name: getattr(tally, name) for name in COUNTS}) + tally.transitions
    names = (*COUNTS, *Transition)
    counts = {n: (said[n], oracle.counts[n]) for n in names if said[n] != oracle.counts[n]}
    say(f"{len(expected):,} edges, counts that differ: {counts or 'none'}")
    regressed = behind(oracle, settings)
    short = sum(max(0, wanted - got) for got, wanted in counts.values())
    over = sum(max(0, got - wanted) for got, wanted in counts.values())
    return {
        "lost": (expected - edges).total() + short,
        "doubled": (edges - expected).total() + over,
        "regressed": len(regressed),
        "edges": expected.total(),
        "duplicates": oracle.counts["duplicates"],
        "dead_letters": oracle.counts["dead_letters"],
    }


def behind(oracle: StreamOracle, settings: Settings) -> list[str]:
    """Users whose vector in Qdrant is not that of their last events under the live version."""
    index = QdrantIndex(settings.qdrant or "", grpc_port=settings.qdrant_grpc_port)
    try:
        alias = index.aliases()[NAMES.users]
        number = int(alias.removeprefix(f"{NAMES.users}-").split("-")[0])
        version = Versions(settings.models_dir).open(number)
        model, ids = version.load(), json.loads((version.path / "items.json").read_bytes())
        items = dict(zip(ids, model.items.tolist(), strict=True))
        weights = model.recency.position.tolist(), model.recency.gap.tolist()
        histories = oracle.histories(model.recency.length, windowed=False)
        users = sorted(histories)
        found = index.fetch(alias, Space.USERS, users)
        return [
            user
            for user, point in zip(users, found, strict=True)
            if point is None
            or point.vector is None
            or not fits(point.vector, histories[user], settings.window_us, items, weights)
        ]
    finally:
        index.close()


def fits(
    vector: np.ndarray[Any, Any],
    recent: list[Edge],
    window_us: int,
    items: dict[str, list[float]],
    weights: tuple[list[list[float]], list[list[float]]],
) -> bool:
    """Whether it is made of a user's last events, up to some that had left the window.

    A user whose old events leave the window is written again with the next event.
    """
    most = sum(edge.time >= recent[0].time - window_us for edge in recent) if recent else 0
    return any(
        np.allclose(vector, folded(recent[:n], items, *weights), atol=1e-4)
        for n in range(most, -1, -1)
    )
