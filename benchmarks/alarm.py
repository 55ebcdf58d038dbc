"""From tastes that turn to a model that has learned them: each step of it, timed on real servers.

    python benchmarks/alarm.py [--rate N] [--share S] [--seed N]

The simulator's messages go to a Kafka topic; `goat ingest`, `goat finetune` and `goat watch
--drift-policy finetune` are three processes on one state, and Qdrant is searched. There is no
fine-tune by the clock: after the first version only an alarm asks for one. The world stands still
until, after `QUIET` messages, the tastes of a share of the users turn at once.

Before a click is sent, its user is looked up in Qdrant: recall@20 is the share of clicks whose item
was among the 20 that an ad system would have been given at that moment. ``recall_quiet`` is of the
last `KEPT` asked before the turn, ``recall_fallen`` of the first between it and the new version,
``recall_recovered`` of the first after that; ``recovered_s`` is when the mean of the
last `STEADY` clicks was first back at `BACK` of the quiet one, counted from the turn, with the new
version live.

The last line is one JSON object: ``alarm_s``, ``finetuned_s``, ``published_s``, ``recovered_s``,
all from the first message of the new tastes; ``windows``, how many windows late the change was
found; what the alarm names; the three recalls; and ``early``: alarms before the turn.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Producer
from freshness import NAMES, PARTITIONS, TOPIC, Goat, say

from consumers import local
from consumers.feed import key_of
from consumers.index import Space
from consumers.local_qdrant import QdrantAddress
from consumers.qdrant_index import QdrantIndex
from consumers.versions import Versions
from stream.deadline import Deadline
from stream.kafka_topics import KafkaCluster, ensure_topic
from stream.simulator import Simulator, SimulatorConfig

# Histories are as long as the model looks back before the reference is over: until then each
# further event moves a user, which is drift too.
USERS, CONTEXT = 200, 30
FIRST, QUIET, AFTER = 120_000, 180_000, 240_000  # messages: learned first, before the turn, after
# Nothing else moves: items that come and go, budgets that run out and tastes that wander are drift
# too, and are found.
STILL: dict[str, Any] = {"campaigns": 0, "wander": 0.0, "new_items": 0.0, "removed_items": 0.0}
ASKED = 12  # clicks asked for in each chunk
CHUNKS_A_SECOND = 4
KEPT, STEADY, BACK = 1_000, 250, 0.95
K = 20
LATE_S = 180.0


@dataclass
class Course:
    """What was seen, and when: monotonic seconds, and hits by the second they were asked at."""

    turned_s: float = float("inf")
    alarm_s: float = float("inf")
    finetuned_s: float = float("inf")
    published_s: float = float("inf")
    alarm: dict[str, Any] = field(default_factory=dict[str, Any])
    early: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    asked_s: list[float] = field(default_factory=list[float])
    hits: list[bool] = field(default_factory=list[bool])

    def recall(self, begin_s: float, end_s: float, last: int | None = None) -> float:
        """Of the clicks asked in between, or the last or first so many of them."""
        at = np.array(self.asked_s)
        inside = np.array(self.hits, float)[(at >= begin_s) & (at < end_s)]
        return float(inside[-last:].mean() if last is not None else inside[:KEPT].mean())

    def recovered_s(self) -> float | None:
        """When the last clicks were first as good as before again."""
        at, hits = np.array(self.asked_s), np.array(self.hits, float)
        wanted = BACK * self.recall(0.0, self.turned_s, KEPT)
        rolling = np.convolve(hits, np.full(STEADY, 1 / STEADY), "valid")
        good = (rolling >= wanted) & (at[: len(rolling)] >= self.published_s)
        return float(at[int(np.argmax(good)) + STEADY - 1]) if good.any() else None


class Stage:
    """The servers, the programs and what is asked of them."""

    def __init__(self, goat: Goat, bootstrap: str, index: QdrantIndex) -> None:
        settings: dict[str, Any] = {"bootstrap.servers": bootstrap, "linger.ms": 5, "log_level": 0}
        self._producer = Producer(settings)
        self._index = index
        self._versions = Versions(Path(goat.environment["GOAT_STATE"]) / "models")
        self._alerts = Path(goat.environment["GOAT_STATE"]) / "alerts.jsonl"
        self._rng = np.random.default_rng(0)
        self._read = 0
        self.course = Course()

    def send(self, messages: list[bytes]) -> None:
        """Send messages, and wait until the broker has them."""
        for message in messages:
            self._producer.produce(TOPIC, message, key=key_of(message))
            self._producer.poll(0)
        if self._producer.flush(120):
            raise SystemExit("the broker did not take all messages")

    def ask(self, messages: list[bytes]) -> None:
        """Ask for the users of some clicks that are about to be sent."""
        clicks = [m for m in map(json.loads, messages) if m["type"] in ("click", "ad_click")]
        for n in self._rng.permutation(len(clicks))[:ASKED].tolist():
            user, item = clicks[n]["user_id"], clicks[n]["item_id"]
            if self._index.fetch(NAMES.users, Space.USERS, [user])[0] is None:
                continue
            found = self._index.candidates(user, K, names=NAMES)
            self.course.asked_s.append(time.monotonic())
            self.course.hits.append(item in {one.id for one in found})

    def look(self) -> None:
        """Note what has happened since the last look."""
        now_s, course = time.monotonic(), self.course
        lines = self._alerts.read_text().splitlines() if self._alerts.exists() else []
        for line in lines[self._read :]:
            alarm = json.loads(line)
            if now_s < course.turned_s:
                course.early.append(alarm)
                say(f"early: {alarm['watch']}")
            elif not course.alarm:
                course.alarm, course.alarm_s = alarm, now_s
                say(f"alarm after {now_s - course.turned_s:.1f} s: {alarm['watch']}")
        self._read = len(lines)
        if not course.alarm:
            return
        if self._versions.numbers()[-1] > course.alarm["version"]:
            course.finetuned_s = min(course.finetuned_s, now_s)
            live = self._index.aliases()[NAMES.items]
            if not live.startswith(f"{NAMES.items}-{course.alarm['version']}"):
                course.published_s = min(course.published_s, now_s)

    def play(self, messages: Iterator[bytes], count: int, rate: float) -> bool:
        """Send so many at a rate, asking and looking; whether the story is over before that."""
        chunk, began_s, sent = int(rate / CHUNKS_A_SECOND), time.monotonic(), 0
        pause = threading.Event()
        while sent < count:
            now = list(islice(messages, chunk))
            self.ask(now)
            self.send(now)
            sent += len(now)
            self.look()
            after = sum(at >= self.course.published_s for at in self.course.asked_s)
            if after >= KEPT and self.course.recovered_s() is not None:
                return True
            pause.wait(max(0.0, sent / rate - (time.monotonic() - began_s)))
        return False


def play(bootstrap: str, address: QdrantAddress, folder: Path, given: argparse.Namespace) -> Course:
    """Play the whole story."""
    goat = Goat.of(bootstrap, address, folder)
    goat.environment.update(
        GOAT_SNAPSHOT_EVERY_S="1",
        GOAT_FINETUNE_INTERVAL_S="1000000",
        GOAT_DRIFT_POLICY="finetune",
        GOAT_MODEL=json.dumps({"context": CONTEXT}),
    )
    config = SimulatorConfig(
        FIRST + QUIET + AFTER,
        drift_at=FIRST + QUIET,
        drift_share=given.share,
        users=USERS,
        all_users_at=1,
        **STILL,
    )
    messages = iter(Simulator(config, np.random.default_rng(given.seed)))
    index = QdrantIndex(address.url, grpc_port=address.grpc_port, api_key=address.api_key)
    stage = Stage(goat, bootstrap, index)
    say(f"{FIRST:,} messages, and a first model version of them")
    stage.send(list(islice(messages, FIRST)))
    goat.run("ingest", "--quiet", "--limit", str(FIRST))
    goat.run("finetune", "--once")
    programs = [goat.start("ingest", "--quiet"), goat.start("finetune", niceness=5)]
    programs.append(goat.start("watch", niceness=5))
    try:
        until = Deadline.after(LATE_S)
        while NAMES.items not in index.aliases():
            if until.passed:
                raise SystemExit(f"nothing was published:\n{goat.log.read_text()[-3_000:]}")
            threading.Event().wait(0.2)
        say(f"{QUIET:,} quiet messages, {given.rate:,.0f} a second")
        stage.play(messages, QUIET, given.rate)
        stage.course.turned_s = time.monotonic()
        say(f"tastes turn; recall until now {stage.course.recall(0, float('inf'), KEPT):.3f}")
        stage.play(messages, AFTER, given.rate)
    finally:
        for program in programs:
            program.terminate()
        for program in programs:
            program.wait(60)
        index.close()
    return stage.course


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rate", type=float, default=1_500.0)
    parser.add_argument("--share", type=float, default=1.0, help="of the users")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with local.kafka() as bootstrap, local.qdrant() as address:
        ensure_topic(KafkaCluster(bootstrap), TOPIC, Deadline.after(60.0), partitions=PARTITIONS)
        with tempfile.TemporaryDirectory(prefix="goat-alarm-") as folder:
            course = play(bootstrap, address, Path(folder), given)
    turned_s, recovered_s = course.turned_s, course.recovered_s()
    alarm = course.alarm
    print(
        json.dumps(
            {
                "alarm_s": course.alarm_s - turned_s,
                "finetuned_s": course.finetuned_s - turned_s,
                "published_s": course.published_s - turned_s,
                "recovered_s": None if recovered_s is None else recovered_s - turned_s,
                "recall_quiet": course.recall(0.0, turned_s, KEPT),
                "recall_fallen": course.recall(turned_s, course.published_s),
                "recall_recovered": course.recall(course.published_s, float("inf")),
                "watch": alarm.get("watch"),
                "segments": [one["segment"] for one in alarm.get("moved", ())],
                "said_before": alarm.get("recall_before"),
                "said_after": alarm.get("recall_after"),
                "early": len(course.early),
            }
        )
    )


if __name__ == "__main__":
    main()
