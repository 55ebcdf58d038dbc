"""Freshness: from a click in Kafka to a search in Qdrant that reflects it, under load.

Kafka, Qdrant and ``goat ingest`` run as processes of their own. Another client library sends a
steady load of impressions, clicks and ad clicks; among them canaries click. A canary is a user
nobody has seen before. Its first click is visible when a search of the items by the user's id finds
candidates; its second, on an item unlike the first, when such a search has narrowed the lead of
the first item over the second. The time counts from handing the click to the producer to the
answer of the search that shows it. After a third of the run ``goat finetune`` learns a new model
version on the same machine, at low priority, and it is adopted while load and canaries go on.

The last line is one JSON object: ``events_per_s`` sent (and taken: the run waits for the last
canary), ``p50_s`` and ``p99_s`` over all canaries, ``steady_p99_s`` before the fine-tune began,
``finetune_p99_s`` while it learned, ``adoption_p99_s`` from then until the new version had been
live for some seconds, and ``lost``: canaries not seen within `PATIENCE_S` (none, or it fails).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
from confluent_kafka import Producer
from qdrant_client import QdrantClient
from qdrant_client import models as q

from consumers import local
from consumers.index import VECTOR, Names, Space, point_id
from consumers.local_qdrant import QdrantAddress
from stream.deadline import Deadline
from stream.kafka_topics import KafkaCluster, ensure_topic

TOPIC, PARTITIONS = "benchmark.freshness", 4
USERS, ITEMS, GROUPS = 20_000, 5_000, 10
OWN_GROUP = 0.8
WARM_UP = 60_000  # messages that the first model version learns from
CANARY_EVERY_S = 0.15
POLL_EVERY_S = 0.05  # more often, and the looking takes the cores from what is looked at
AFTER_ADOPTION_S = 5.0
PATIENCE_S = 30.0
# Of the first item's lead: the cosines give 1 or more, popularity moves by far less in a moment.
VISIBLE_DROP = 0.15
NAMES = Names.of("freshness")
KINDS = ("impression", "click", "impression", "ad_click", "impression")


def say(text: str) -> None:
    print(text, file=sys.stderr)


class Load:
    """Events of many users, some users and items far more frequent than others.

    Users and items are of `GROUPS` kinds, and most of what a user does is within its own, so that
    there is something to learn and unlike items are unlike in every model version.
    """

    def __init__(self, bootstrap: str, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        settings: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
            "log_level": 0,
        }
        self._producer = Producer(settings)
        self._run = f"{time.time_ns():x}"
        self._numbers = count()  # two threads send
        self.sent = 0

    def send(self, events: int) -> None:
        """Send so many events of now."""
        users = (USERS * self._rng.random(events) ** 3).astype(int).tolist()
        items = (ITEMS * self._rng.random(events) ** 3).astype(int)
        own = items - items % GROUPS + np.array(users, int) % GROUPS
        picked = np.where(self._rng.random(events) < OWN_GROUP, own, items).tolist()
        for user, item in zip(users, picked, strict=True):
            self.event(KINDS[self.sent % len(KINDS)], f"user-{user}", f"item-{item}")

    def event(self, kind: str, user: str, item: str) -> None:
        """Send one event of now."""
        number = next(self._numbers)
        seconds, us = divmod(time.time_ns() // 1_000, 1_000_000)
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        value = (
            f'{{"type":"{kind}","event_id":"{self._run}-{number}","schema_version":1,'
            f'"occurred_at":"{moment}.{us:06d}Z","user_id":"{user}","item_id":"{item}",'
            f'"request_id":"r-{number}"}}'
        )
        self._producer.produce(TOPIC, value.encode(), key=user.encode())
        self._producer.poll(0)
        self.sent = number + 1

    def flush(self) -> None:
        if self._producer.flush(120):
            raise SystemExit("the broker did not take all messages")


@contextmanager
def running(load: Load, rate: float) -> Generator[None]:
    """Keep the load going in a thread while the block lasts."""
    stop = threading.Event()

    def go() -> None:
        began_s, done = time.monotonic(), 0
        while not stop.wait(0.02):
            due = int((time.monotonic() - began_s) * rate) - done
            load.send(due)
            done += due

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@dataclass(slots=True)
class Canary:
    """One user that clicks twice.

    Attributes
    ----------
    clicked_s : when the click under way was sent
    before : lead of the first item before the second click; None while the first is under way
    """

    user: str
    first: str
    second: str
    clicked_s: float
    before: float | None = None


@dataclass(slots=True)
class Canaries:
    """Sends canaries, looks for them, and notes how long they took.

    Attributes
    ----------
    seen : (when it was sent, seconds until it was visible)
    """

    load: Load
    client: QdrantClient
    pairs: Sequence[tuple[str, str]]
    seen: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    flying: list[Canary] = field(default_factory=list[Canary])
    sent: int = 0

    def start(self) -> None:
        """Send the first click of the next canary."""
        first, second = self.pairs[self.sent % len(self.pairs)]
        user = f"canary-{self.sent}"
        self.sent += 1
        self.flying.append(Canary(user, first, second, time.monotonic()))
        self.load.event("click", user, first)

    def look(self) -> None:
        """Search for all that are under way, and let those that are seen go on."""
        there = self._known([canary.user for canary in self.flying])
        found = [canary for canary in self.flying if canary.user in there]
        leads = self.leads(found) if found else []
        now_s = time.monotonic()
        for canary, lead in zip(found, leads, strict=False):
            if canary.before is None:
                self.seen.append((canary.clicked_s, now_s - canary.clicked_s))
                canary.before, canary.clicked_s = lead, time.monotonic()
                self.load.event("click", canary.user, canary.second)
            elif lead < canary.before - VISIBLE_DROP:
                self.seen.append((canary.clicked_s, now_s - canary.clicked_s))
                self.flying.remove(canary)

    def _known(self, users: Sequence[str]) -> set[str]:
        """Those of the users that have a point by now; a search by another would be an error."""
        by_id = {point_id(Space.USERS, user): user for user in users}
        found = self.client.retrieve(NAMES.users, list(by_id), with_payload=False)
        return {by_id[str(record.id)] for record in found}

    def leads(self, canaries: Sequence[Canary]) -> list[float]:
        """Search the items by each user's id; by how much the first of its two leads."""
        requests = [_request(canary) for canary in canaries]
        try:
            answers = self.client.query_batch_points(NAMES.items, requests)
        except grpc.RpcError:  # an alias was flipped since: one is not known there yet
            return []
        leads: list[float] = []
        for canary, answer in zip(canaries, answers, strict=True):
            scores = {str(point.id): point.score for point in answer.points}
            first, second = (point_id(Space.ITEMS, i) for i in (canary.first, canary.second))
            leads.append(scores[first] - scores[second])
        return leads


def _request(canary: Canary) -> q.QueryRequest:
    two = q.FieldCondition(key="id", match=q.MatchAny(any=[canary.first, canary.second]))
    return q.QueryRequest(
        query=point_id(Space.USERS, canary.user),
        using=VECTOR,
        lookup_from=q.LookupLocation(collection=NAMES.users, vector=VECTOR),
        filter=q.Filter(must=[two]),
        limit=2,
    )


def unlike(client: QdrantClient, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Pairs of frequent items of which the second is among the least similar to the first."""
    wanted = [point_id(Space.ITEMS, f"item-{i}") for i in range(ITEMS // 4)]
    records = client.retrieve(NAMES.items, wanted, with_vectors=True, with_payload=["id"])
    names = [str((record.payload or {})["id"]) for record in records]
    vectors = [cast(dict[str, list[float]], record.vector)[VECTOR] for record in records]
    z = np.array(vectors, np.float32)[:, :-1]  # without the popularity coordinate
    pairs: list[tuple[str, str]] = []
    for at in rng.permutation(len(names))[:200].tolist():
        pairs.append((names[at], names[int(np.argmin(z @ z[at]))]))
    return pairs


def live_collection(client: QdrantClient) -> str | None:
    aliases = {a.alias_name: a.collection_name for a in client.get_aliases().aliases}
    return aliases.get(NAMES.users)


@dataclass(frozen=True, slots=True)
class Goat:
    """The programs, all on one state."""

    environment: dict[str, str]
    log: Path

    @classmethod
    def of(cls, bootstrap: str, address: QdrantAddress, folder: Path) -> "Goat":
        """Point the programs at the servers."""
        settings = {
            "KAFKA": bootstrap,
            "TOPIC": TOPIC,
            "QDRANT": address.url,
            "QDRANT_GRPC_PORT": str(address.grpc_port),
            "COLLECTION": "freshness",
            "STATE": str(folder / "state"),
            "THREADS": "1",
        }
        own = {f"GOAT_{name}": value for name, value in settings.items()}
        return cls({**os.environ, **own}, folder / "goat.log")

    def start(self, *words: str, niceness: int = 0) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            nice = ["nice", "-n", str(niceness)]
            command = [*nice, sys.executable, "-m", "consumers", *words]
            return subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def run(self, *words: str) -> None:
        if code := self.start(*words).wait():
            raise SystemExit(f"goat {words[0]} ended with {code}:\n{self.log.read_text()[-3_000:]}")


@dataclass(slots=True)
class Course:
    """When what happened, monotonic seconds."""

    learning_s: float = float("inf")
    learned_s: float = float("inf")
    adopted_s: float = float("inf")


def fly(
    canaries: Canaries, goat: Goat, ingest: "subprocess.Popen[bytes]", seconds: float
) -> Course:
    """Send canaries for so long and look for them, with a fine-tune after a third of it."""
    course, began_s = Course(), time.monotonic()
    before, learner, next_s = live_collection(canaries.client), None, began_s
    pause = threading.Event()
    while (now_s := time.monotonic()) < began_s + seconds or course.adopted_s + 5 > now_s:
        if ingest.poll() is not None or now_s > began_s + 10 * seconds:
            raise SystemExit(f"no version was adopted:\n{goat.log.read_text()[-3_000:]}")
        if now_s >= next_s:
            canaries.start()
            next_s = max(next_s + CANARY_EVERY_S, now_s - 1)
        canaries.look()
        if learner is None and now_s > began_s + seconds / 3:
            learner, course.learning_s = goat.start("finetune", "--once", niceness=10), now_s
            say("fine-tuning beside it")
        if learner is not None and course.learned_s > now_s and learner.poll() is not None:
            course.learned_s = now_s
            say(f"learned after {now_s - course.learning_s:.1f} s")
        awaited = course.adopted_s > now_s >= course.learned_s
        if awaited and live_collection(canaries.client) != before:
            course.adopted_s = now_s
            say(f"adopted after {now_s - course.learned_s:.1f} s more")
        pause.wait(POLL_EVERY_S)
    deadline = Deadline.after(PATIENCE_S)
    while canaries.flying and not deadline.passed:
        canaries.look()
        pause.wait(POLL_EVERY_S)
    return course


def quantile(seen: Sequence[tuple[float, float]], share: float) -> float | None:
    return round(float(np.quantile([took for _, took in seen], share)), 3) if seen else None


def figures(canaries: Canaries, course: Course, rate: float) -> dict[str, object]:
    """What the canaries say, as a whole and by what went on when they were sent."""
    seen = canaries.seen
    until_s = course.adopted_s + AFTER_ADOPTION_S
    learning = [s for s in seen if course.learning_s <= s[0] < course.learned_s]
    return {
        "events_per_s": round(rate),
        "p50_s": quantile(seen, 0.5),
        "p99_s": quantile(seen, 0.99),
        "max_s": quantile(seen, 1.0),
        "steady_p50_s": quantile([s for s in seen if s[0] < course.learning_s], 0.5),
        "steady_p99_s": quantile([s for s in seen if s[0] < course.learning_s], 0.99),
        "finetune_p99_s": quantile(learning, 0.99),
        "adoption_p99_s": quantile([s for s in seen if course.learned_s <= s[0] < until_s], 0.99),
        "canaries": len(seen),
        "lost": len(canaries.flying),
        "finetune_s": round(course.learned_s - course.learning_s, 1),
        "adoption_s": round(course.adopted_s - course.learned_s, 1),
    }


def measure(goat: Goat, load: Load, client: QdrantClient, given: argparse.Namespace) -> None:
    """Warm up, run, print."""
    rng = np.random.default_rng(given.seed)
    say(f"{WARM_UP:,} messages, and a first model version of them")
    load.send(WARM_UP)
    load.flush()
    goat.run("ingest", "--quiet", "--limit", str(WARM_UP))
    goat.run("finetune", "--once")
    ingest = goat.start("ingest", "--quiet")
    try:
        deadline = Deadline.after(120)
        while live_collection(client) is None:
            if deadline.passed or ingest.poll() is not None:
                raise SystemExit(f"nothing was published:\n{goat.log.read_text()[-3_000:]}")
            threading.Event().wait(0.2)
        canaries = Canaries(load, client, unlike(client, rng))
        say(f"{given.rate:,.0f} events/s, a canary each {CANARY_EVERY_S} s")
        sent, began_s = load.sent, time.monotonic()
        with running(load, given.rate):
            course = fly(canaries, goat, ingest, given.seconds)
            rate = (load.sent - sent) / (time.monotonic() - began_s)
        load.flush()
    finally:
        ingest.terminate()
        ingest.wait(60)
    print(json.dumps(figures(canaries, course, rate)))
    for canary in canaries.flying:
        say(f"not seen: {canary}, lead {canaries.leads([canary])}")
    if canaries.flying:
        raise SystemExit(f"{len(canaries.flying)} canaries were not seen in {PATIENCE_S} s")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=2_000.0)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory(prefix="goat-freshness-") as folder,
        local.kafka() as bootstrap,
        local.qdrant() as address,
    ):
        deadline = Deadline.after(30)
        ensure_topic(KafkaCluster(bootstrap), TOPIC, deadline, partitions=PARTITIONS)
        client = QdrantClient(
            url=address.url,
            grpc_port=address.grpc_port,
            prefer_grpc=True,
            check_compatibility=False,
            cloud_inference=True,  # else it searches every query for texts to embed
        )
        goat = Goat.of(bootstrap, address, Path(folder))
        measure(goat, Load(bootstrap, given.seed), client, given)
        client.close()


if __name__ == "__main__":
    main()
