"""What the tests of whole programs share: processes that end with the test, topics, messages."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest
from confluent_kafka import Consumer

from consumers.feed import key_of
from consumers.local_qdrant import QdrantAddress
from stream.batch import Partition
from stream.deadline import Deadline
from stream.kafka_topics import KafkaCluster, ensure_topic
from stream.sink import DeadLetter
from tests.producer import producer_of
from tests.system.authority import Authority
from tests.system.guarded_kafka import GuardedKafka, guarded_kafka
from tests.system.guarded_qdrant import GuardedQdrant, guarded_qdrant

names = map("system-{}-{}".format, itertools.repeat(os.getpid()), itertools.count())

Goat = Callable[..., "subprocess.Popen[bytes]"]
MakeTopic = Callable[..., str]
Produce = Callable[[str, Sequence[bytes]], None]
ReadLetters = Callable[[str], list[DeadLetter]]


@pytest.fixture
def goat(tmp_path: Path) -> Iterator[Goat]:
    """Start `goat` with these words and settings; what still runs at the end is killed."""
    started: list[subprocess.Popen[bytes]] = []
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GOAT_")}

    def start(*words: object, **settings: object) -> "subprocess.Popen[bytes]":
        own = {f"GOAT_{name.upper()}": str(value) for name, value in settings.items()}
        with (tmp_path / "goat.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "consumers", *map(str, words)],
                env=inherited | own,
                cwd=tmp_path,
                stdout=log,
                stderr=log,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def settings_of(
    kafka: str, qdrant: QdrantAddress, topic: str, state: Path, **more: object
) -> dict[str, object]:
    """Settings of programs that work on one topic and one state."""
    return {
        "kafka": kafka,
        "topic": topic,
        "dead_letter_topic": f"{topic}.dead",
        "group": topic,
        "qdrant": qdrant.url,
        "qdrant_grpc_port": qdrant.grpc_port,
        "state": state,
        "snapshot_every_s": 1,
        "harm_window": 0,  # a version is held in tests of that
        **more,
    }


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedKafka]:
    """A broker that asks for passwords and certificates."""
    with guarded_kafka(tmp_path_factory.mktemp("kafka")) as made:
        yield made


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedQdrant]:
    """A Qdrant server that asks for a key, over TLS."""
    with guarded_qdrant(tmp_path_factory.mktemp("qdrant")) as made:
        yield made


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that no server of ours trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture
def make_topic(kafka: str) -> MakeTopic:
    """Make a topic with so many partitions, of a name that no other test has."""

    def make(partitions: int, **config: str) -> str:
        topic, deadline = next(names), Deadline.after(30)
        settings = {name.replace("_", "."): value for name, value in config.items()}
        cluster = KafkaCluster(kafka)
        assert ensure_topic(cluster, topic, deadline, partitions=partitions, config=settings)
        return topic

    return make


@pytest.fixture
def produce(kafka: str) -> Produce:
    """Send messages with another client library, keyed by user as producers should."""
    producer = producer_of(kafka, message_max_bytes=4_000_000)

    def send(topic: str, messages: Sequence[bytes]) -> None:
        for message in messages:
            producer.produce(topic, message, key=key_of(message))
            producer.poll(0)
        assert producer.flush(60) == 0

    return send


@pytest.fixture
def read_letters(kafka: str) -> ReadLetters:
    """Read a topic of dead letters from its begin to its end, with another client library."""

    def read(topic: str) -> list[DeadLetter]:
        consumer = Consumer(
            {
                "bootstrap.servers": kafka,
                "group.id": f"{topic}-reader",
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "log_level": 0,
            }
        )
        consumer.subscribe([topic])
        found: list[DeadLetter] = []
        deadline = Deadline.after(60)
        while not deadline.passed:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error() is not None:
                break  # the end of its only partition
            headers = cast(list[tuple[str, bytes]], message.headers() or [])
            found.append(_letter(message.value() or b"", headers))
        consumer.close()
        return found

    return read


def _letter(value: bytes, headers: list[tuple[str, bytes]]) -> DeadLetter:
    ours = {name: text.decode() for name, text in headers if name.startswith("goat-")}
    return DeadLetter(
        Partition(ours["goat-topic"], int(ours["goat-partition"])),
        int(ours["goat-offset"]),
        value,
        ours["goat-reason"],
        ours["goat-detail"],
        tuple((name, text) for name, text in headers if not name.startswith("goat-")),
    )
