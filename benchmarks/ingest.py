"""Ingestion rate: Kafka to graph in one process, beside a raw kafka-python poll loop.

A topic on a real broker is filled by another client library with impressions, clicks and ad clicks
of about 255 bytes, most of them by few users and items. Then two readers take
turns over the whole of it:

- raw: kafka-python's own ``poll`` with the same fetch settings and no group; messages are counted;
- ours: source, codec, orderer and graph, as the ingestor calls them; every event must be applied.

Both are timed by the wall from the first message to the last, after the connection stands. The
broker shares the machine, and both readers wait for it. The median of the turns counts. The last
line is one JSON object: rates in events a second, and the ratio of ours to the raw one;
``cpu_ratio`` is the same by the CPU time of the reading process alone.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
from confluent_kafka import Producer
from kafka import KafkaConsumer

from consumers import local
from stream.batch import Partition
from stream.clock import ManualClock, SystemClock
from stream.codec import Codec, Limits
from stream.deadline import Deadline
from stream.graph import Graph
from stream.kafka_client import native
from stream.kafka_source import KafkaConfig, KafkaSource
from stream.kafka_topics import KafkaCluster, ensure_topic
from stream.ordering import Orderer

TOPIC = "benchmark.ingest"
START = datetime(2026, 11, 1, tzinfo=UTC)
NOW_US = 1_800_000_000_000_000
TYPES = ("impression", "click", "impression", "ad_click", "impression")
BATCH = 5_000


@dataclass(frozen=True, slots=True)
class Turn:
    """One reader's way through the topic: messages, and seconds by the wall and of CPU."""

    messages: int
    wall_s: float
    cpu_s: float


def message(row: int, user: int, item: int, rng: np.random.Generator) -> bytes:
    """One interaction as a producer would write it."""
    event: dict[str, Any] = {
        "type": TYPES[row % len(TYPES)],
        "schema_version": 1,
        "event_id": rng.bytes(16).hex(),
        "occurred_at": (START + timedelta(milliseconds=37 * row)).isoformat(
            timespec="milliseconds"
        ),
        "user_id": f"user-{user}",
        "item_id": f"item-{item}",
        "campaign_id": f"campaign-{item % 500}",
        "position": row % 20,
        "request_id": rng.bytes(8).hex(),
    }
    if event["type"] == "impression":
        event["propensity"] = round(1 / (1 + row % 20), 4)
    return json.dumps(event, separators=(",", ":")).encode()


def fill(bootstrap: str, messages: int, seed: int) -> float:
    """Write the topic; return the mean size of a message in bytes."""
    rng = np.random.default_rng(seed)
    users = np.minimum(rng.zipf(1.2, messages), 200_000)
    items = np.minimum(rng.zipf(1.1, messages), 50_000)
    ensure_topic(KafkaCluster(bootstrap), TOPIC, Deadline.after(30))
    settings: dict[str, Any] = {
        "bootstrap.servers": bootstrap,
        "linger.ms": 50,
        "queue.buffering.max.messages": messages + 1,
        "queue.buffering.max.kbytes": 2_000_000,
    }
    producer = Producer(settings)
    size = 0
    for row in range(messages):
        value = message(row, int(users[row]), int(items[row]), rng)
        size += len(value)
        producer.produce(TOPIC, value, key=str(users[row]))
    if producer.flush(120):
        raise SystemExit("the broker did not take all messages")
    return size / messages


def config(bootstrap: str) -> KafkaConfig:
    """Our settings, in a group of this turn's own."""
    return KafkaConfig(KafkaCluster(bootstrap), (TOPIC,), f"ingest-{time.monotonic_ns()}")


def raw(bootstrap: str, messages: int) -> Turn:
    """Poll and count, as the least that a consumer can do."""
    new = cast(Callable[..., Any], KafkaConsumer)
    same = ("max_partition_fetch_bytes", "isolation_level", "metrics_enabled")
    options = {name: config(bootstrap).options()[name] for name in same}
    consumer = new(bootstrap_servers=bootstrap, **options)
    where = native(Partition(TOPIC, 0))
    consumer.assign([where])
    consumer.seek_to_beginning()
    consumer.position(where)

    def step() -> int:
        polled = consumer.poll(timeout_ms=1_000, max_records=BATCH)
        return sum(map(len, polled.values()))

    turn = timed(step, messages)
    consumer.close()
    return turn


def ours(bootstrap: str, messages: int) -> Turn:
    """Poll, decode, order and apply."""
    source = KafkaSource(config(bootstrap), {}, SystemClock())
    source.pause()
    deadline = Deadline.after(30)
    while not source.assignment() and not deadline.passed:
        source.poll(1, 0.1)
    source.resume()
    codec, orderer, graph = Codec(Limits(), ManualClock(NOW_US)), Orderer(), Graph()

    def step() -> int:
        count = 0
        for batch in source.poll(BATCH, 1.0):
            decoded = codec.decode(batch)
            admission = orderer.admit(decoded.events)
            graph.apply(decoded.events, admission.keep)
            if len(admission.keep) != len(batch):
                raise SystemExit(f"{len(batch) - len(admission.keep)} events were not applied")
            count += len(batch)
        return count

    turn = timed(step, messages)
    source.close()
    return turn


def timed(step: Callable[[], int], messages: int) -> Turn:
    """Call until everything is read."""
    deadline = Deadline.after(300)
    wall, cpu, count = time.perf_counter(), time.process_time(), 0
    while count < messages and not deadline.passed:
        count += step()
    turn = Turn(count, time.perf_counter() - wall, time.process_time() - cpu)
    if count != messages:
        raise SystemExit(f"read {count} of {messages} messages")
    return turn


def figures(turns: Sequence[tuple[Turn, Turn]], size: float) -> dict[str, float]:
    """Medians over the turns, and ratios of what was measured side by side."""
    ratios = [r.wall_s / o.wall_s for r, o in turns]
    cpu_ratios = [r.cpu_s / o.cpu_s for r, o in turns]
    return {
        "events_per_s": round(statistics.median(o.messages / o.wall_s for _, o in turns)),
        "raw_events_per_s": round(statistics.median(r.messages / r.wall_s for r, _ in turns)),
        "ratio": round(statistics.median(ratios), 3),
        "cpu_ratio": round(statistics.median(cpu_ratios), 3),
        "bytes_per_message": round(size, 1),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=300_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args(argv)
    with local.kafka() as bootstrap:
        print(f"writing {given.messages:,} messages", file=sys.stderr)
        size = fill(bootstrap, given.messages, given.seed)
        turns: list[tuple[Turn, Turn]] = []
        for number in range(given.turns):
            turns.append((raw(bootstrap, given.messages), ours(bootstrap, given.messages)))
            rates = [f"{t.messages / t.wall_s:,.0f}" for t in turns[-1]]
            print(f"turn {number + 1}: raw {rates[0]}/s, ours {rates[1]}/s", file=sys.stderr)
    print(json.dumps(figures(turns, size)))


if __name__ == "__main__":
    main()
