"""Campaigns: from a pause to searches that no longer return it, and a day's budget paced.

Pauses: Kafka, Qdrant and ``goat ingest`` run as processes of their own, under the steady load of
`benchmarks/freshness.py` on items that all are of campaigns, which are charged and paced. One
campaign after the other is paused, and searched for by a user's id until no item of it is returned.
The time counts from handing the event to the producer to the answer of the search.

A day: simulated days of strong shape, of which the first two are learned from. An ad server shows
a campaign in the share of requests that the payload said ten seconds before; some impressions are
clicked, half a minute later on average, and clicks are what is paid for. Events go through decoding
and the graph as always; time is theirs, so a day takes about a minute. The last day brings a burst
of twenty times the traffic, from noon on.

The last line is one JSON object: ``pause_p50_s``, ``pause_p99_s``, ``pause_max_s`` and ``pauses``;
``overspend_share`` and ``spent_share`` of the budget of the day, ``curve_deviation`` (the largest
distance of the spend from the learned traffic, as a share of the budget) and the same of the day
with the burst. ``--svg FILE`` writes the pacing curve, ``--only pauses`` and ``--only day`` do one
of the two. Run: python benchmarks/campaigns.py
"""

import argparse
import heapq
import json
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Producer
from freshness import NAMES, PARTITIONS, TOPIC, WARM_UP, Goat, Load, running, say
from numpy.typing import NDArray

from consumers import local
from consumers.campaigns import Campaigns
from consumers.comparison_page import plot
from consumers.index import Conditions
from consumers.local_qdrant import QdrantAddress
from consumers.qdrant_index import QdrantIndex
from model.pacing import progress_of
from stream.batch import Partition, RecordBatch
from stream.clock import ManualClock
from stream.codec import Codec, Limits
from stream.deadline import Deadline
from stream.graph import Graph
from stream.kafka_topics import KafkaCluster, ensure_topic
from stream.ordering import Orderer
from stream.zones import DAY_US

CAMPAIGNS, ITEMS = 200, 5_000
LOOK_EVERY_S = 0.02
PATIENCE_S = 30.0
CAMPAIGN = "spring"
BUDGET, BID, CLICKED, ANSWER_S = 1_000.0, 1.0, 0.05, 30.0
STEP_S, STEPS = 10, 8_640
FIRST_DAY = 20_000  # in 2024
HOURS = np.arange(24)
SHAPE = 0.2 + np.exp(-(((HOURS - 10) / 2.5) ** 2)) + 2 * np.exp(-((HOURS - 20) ** 2) / 2)


class Teller:
    """Sends items and campaigns, as of now."""

    def __init__(self, bootstrap: str) -> None:
        settings: dict[str, Any] = {"bootstrap.servers": bootstrap, "linger.ms": 0, "log_level": 0}
        self._producer = Producer(settings)
        self._run = f"t{time.time_ns():x}"
        self._sent = 0

    def tell(self, kind: str, **fields: Any) -> None:
        """Send one event."""
        self._sent += 1
        event = {"type": kind, "event_id": f"{self._run}-{self._sent}", **fields}
        event["occurred_at"] = datetime.now(UTC).isoformat()
        self._producer.produce(TOPIC, json.dumps(event).encode())
        self._producer.poll(0)

    def flush(self) -> None:
        if self._producer.flush(60):
            raise SystemExit("the broker did not take all messages")


def pauses(bootstrap: str, address: QdrantAddress, folder: Path, given: argparse.Namespace) -> Any:
    """Seconds from each pause to a search without the campaign."""
    load, teller = Load(bootstrap, given.seed), Teller(bootstrap)
    goat = Goat.of(bootstrap, address, folder)
    bid: dict[str, Any] = {"bid": 0.01, "bid_for": "click", "daily_budget": 1_000.0, "cap": 20}
    for campaign in range(CAMPAIGNS):
        teller.tell("campaign", campaign_id=f"campaign-{campaign}", **bid)
    for item in range(ITEMS):
        teller.tell("item", item_id=f"item-{item}", campaign_id=f"campaign-{item % CAMPAIGNS}")
    teller.flush()
    say(f"{WARM_UP:,} messages, and a first model version of them")
    load.send(WARM_UP)
    load.flush()
    goat.run("ingest", "--quiet", "--limit", str(WARM_UP + CAMPAIGNS + ITEMS))
    goat.run("finetune", "--once")
    ingest = goat.start("ingest", "--quiet")
    index = QdrantIndex(address.url, grpc_port=address.grpc_port, api_key=address.api_key)
    try:
        _await(lambda: NAMES.items in index.aliases(), 120.0)
        say(f"{given.rate:,.0f} events/s, {given.pauses} pauses")
        with running(load, given.rate):
            return _pause_each(index, teller, bid, given)
    finally:
        ingest.terminate()
        ingest.wait(60)
        index.close()


def _pause_each(
    index: QdrantIndex, teller: Teller, bid: dict[str, Any], given: argparse.Namespace
) -> list[float]:
    rng, pause = np.random.default_rng(given.seed), threading.Event()
    took: list[float] = []
    for number in range(given.pauses):
        name = f"campaign-{number % CAMPAIGNS}"

        def found(name: str = name) -> bool:
            wanted = Conditions(campaigns=(name,))
            return bool(index.candidates("user-1", 10, wanted, names=NAMES))

        if not found():
            raise SystemExit(f"{name} is not found before it is paused")
        began_s = time.monotonic()
        teller.tell("campaign", campaign_id=name, paused=True, **bid)
        _await(lambda: not found(), PATIENCE_S)
        took.append(time.monotonic() - began_s)
        teller.tell("campaign", campaign_id=name, **bid)
        pause.wait(rng.uniform(0.05, 0.3))
        if number % 20 == 19:
            say(f"{number + 1} pauses, median {np.median(took):.2f} s")
    return took


def _await(what: Any, patience_s: float) -> None:
    deadline, pause = Deadline.after(patience_s), threading.Event()
    while not what():
        if deadline.passed:
            raise SystemExit(f"it did not happen in {patience_s} s")
        pause.wait(LOOK_EVERY_S)


@dataclass
class World:
    """An ad server with its users, and the path from their events to the campaign's payload."""

    rng: np.random.Generator
    graph: Graph = field(default_factory=Graph)
    orderer: Orderer = field(default_factory=Orderer)
    clock: ManualClock = field(default_factory=lambda: ManualClock(FIRST_DAY * DAY_US))
    acting: float = 0.0
    coming: float = 0.0
    number: int = 0
    answers: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def __post_init__(self) -> None:
        self.codec = Codec(Limits(), self.clock)
        self.campaigns = Campaigns(self.graph)
        told = {"campaign_id": CAMPAIGN, "daily_budget": BUDGET, "bid": BID, "bid_for": "click"}
        self.take([self.event("campaign", self.clock.now_us(), **told)])

    def event(self, kind: str, time_us: int, **fields: Any) -> bytes:
        self.number += 1
        at = f"{np.datetime64(time_us, 'us')}Z"
        event = {"type": kind, "event_id": f"e{self.number}", "occurred_at": at, **fields}
        return json.dumps(event).encode()

    def take(self, messages: Sequence[bytes]) -> None:
        """Apply messages, and work out what their effect on the payload is."""
        batch = RecordBatch(Partition("day", 0), np.arange(len(messages)), messages, 0)
        decoded = self.codec.decode(batch)
        self.graph.apply(decoded.events, self.orderer.admit(decoded.events).keep)
        self.acting = self.coming
        for fields in self.campaigns.changed().values():
            shown = fields["campaign_state"] == "running"
            self.coming = float(str(fields["campaign_pacing"])) if shown else 0.0

    def day(self, day: int, requests: float, *, burst: bool = False) -> NDArray[np.float64]:
        """Play a day; spend after each step, float64[STEPS]."""
        spent = np.zeros(STEPS)
        for step in range(STEPS):
            hour = step * STEP_S // 3_600
            rate = SHAPE[hour] / SHAPE.sum() / 3_600 * STEP_S * requests
            if burst and 12 * 3_600 <= step * STEP_S < 12 * 3_600 + 1_200:
                rate *= 20
            self.step(day * DAY_US + step * STEP_S * 1_000_000, int(self.rng.poisson(rate)))
            account = self.graph.ledger.spend.account(CAMPAIGN)
            spent[step] = account.days.get(day, 0) / 1e6
        say(f"day {day - FIRST_DAY}: {spent[-1] / BUDGET:.4f} of the budget")
        return spent

    def step(self, begin_us: int, requests: int) -> None:
        """Ten seconds of requests, and the clicks that fall due in them."""
        end_us = begin_us + STEP_S * 1_000_000
        self.clock.advance(end_us - self.clock.now_us())
        messages: list[bytes] = []
        shown = self.rng.random(requests) < self.acting
        times = np.sort(self.rng.integers(begin_us, end_us, requests)).tolist()
        for time_us, ours in zip(times, shown.tolist(), strict=True):
            user = int(self.rng.integers(2_000))
            named = {"campaign_id": CAMPAIGN} if ours else {}
            who = {"user_id": f"u{user}", "item_id": f"i{user % 97}", **named}
            messages.append(self.event("impression", time_us, **who))
            if ours and self.rng.random() < CLICKED:
                after_us = int(self.rng.exponential(ANSWER_S) * 1e6)
                heapq.heappush(self.answers, (time_us + after_us, user))
        while self.answers and self.answers[0][0] < end_us:
            time_us, user = heapq.heappop(self.answers)
            who = {"user_id": f"u{user}", "item_id": f"i{user % 97}", "campaign_id": CAMPAIGN}
            messages.append(self.event("ad_click", time_us, **who))
        self.take(messages)


def days(given: argparse.Namespace) -> dict[str, object]:
    """Play the days."""
    world = World(np.random.default_rng(given.seed))
    for day in range(2):
        world.day(FIRST_DAY + day, given.requests)
    forecast = world.graph.ledger.traffic.shares((FIRST_DAY + 2) * DAY_US)
    expected = np.array([progress_of(forecast, (s + 1) / STEPS) for s in range(STEPS)])
    spent = world.day(FIRST_DAY + 2, given.requests) / BUDGET
    burst = world.day(FIRST_DAY + 3, given.requests, burst=True) / BUDGET
    if given.svg is not None:
        hourly = np.arange(1, 25) * STEPS // 24 - 1
        lines = {"traffic expected": expected, "spent": spent, "spent, with a burst at noon": burst}
        drawn = {name: line[hourly].tolist() for name, line in lines.items()}
        label = "Share of a day's budget spent, by the hour"
        given.svg.write_text(plot(drawn, label, named=True))
    return {
        "overspend_share": round(max(float(spent[-1]) - 1, 0.0), 5),
        "spent_share": round(float(spent[-1]), 5),
        "curve_deviation": round(float(np.abs(spent - expected).max()), 4),
        "burst_overspend_share": round(max(float(burst[-1]) - 1, 0.0), 5),
        "burst_spent_share": round(float(burst[-1]), 5),
        "requests_a_day": given.requests,
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pauses", type=int, default=200)
    parser.add_argument("--rate", type=float, default=1_000.0)
    parser.add_argument("--requests", type=float, default=150_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--only", choices=("pauses", "day"))
    given = parser.parse_args(argv)
    figures = {} if given.only == "pauses" else days(given)
    if given.only != "day":
        figures = {**searched(given), **figures}
    print(json.dumps(figures))


def searched(given: argparse.Namespace) -> dict[str, object]:
    """Start the servers, and time pauses."""
    with (
        tempfile.TemporaryDirectory(prefix="goat-campaigns-") as folder,
        local.kafka() as bootstrap,
        local.qdrant() as address,
    ):
        deadline = Deadline.after(30)
        ensure_topic(KafkaCluster(bootstrap), TOPIC, deadline, partitions=PARTITIONS)
        took = pauses(bootstrap, address, Path(folder), given)
    p50, p99, most = (round(float(np.quantile(took, q)), 3) for q in (0.5, 0.99, 1.0))
    shown = {"pause_p50_s": p50, "pause_p99_s": p99, "pause_max_s": most, "pauses": len(took)}
    return {**shown, "events_per_s": given.rate}


if __name__ == "__main__":
    main()
