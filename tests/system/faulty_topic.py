"""A topic to do things to, a fast path over it, and what the oracle says of what there was."""

import json
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from consumers import wiring
from consumers.ingestor import Ingestor
from consumers.inputs import Inputs
from consumers.lifecycle import Stop
from consumers.pipeline import Pipeline
from consumers.settings import Settings
from consumers.versions import Versions
from stream.batch import Partition
from stream.clock import SystemClock
from stream.deadline import Deadline
from stream.joins import Transition
from stream.kafka_source import KafkaConfig
from tests.oracle.stream import StreamOracle
from tests.producer import producer_of

COUNTS = ("events_in", "applied", "duplicates", "dead_letters", "late", "capped")
WITHIN_S = 60.0
LATENESS_S = 600.0
MESSAGES_AT_ONCE = 97
WHEN_TOLD_S = 1e9

Message = tuple[int, bytes]
"""With the number of its partition."""


def impatient(monkeypatch: pytest.MonkeyPatch, stall_after_s: float) -> None:
    """Have noticed within half a second what is noticed within half a minute."""
    hasty = partial(KafkaConfig, metadata_every_s=0.5, stall_after_s=stall_after_s)
    monkeypatch.setattr(wiring, "KafkaConfig", hasty)


@dataclass
class FaultyTopic:
    """A topic at a broker, and a state that is made of it."""

    bootstrap: str
    name: str
    state: Path
    start_at: str = "earliest"
    sent: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        quiet = {"bootstrap.servers": self.bootstrap, "log_level": 0}
        self.admin = AdminClient(quiet)
        self._quiet = quiet

    @property
    def settings(self) -> Settings:
        return Settings(
            kafka=self.bootstrap,
            topic=self.name,
            dead_letter_topic=f"{self.name}.dead",
            group=self.name,
            state=self.state,
            start_at=self.start_at,  # type: ignore[arg-type]
            lateness_s=LATENESS_S,
            embedder="given",
        )

    # -- what is done to it

    def make(self, partitions: int, **config: str) -> None:
        options = {name.replace("_", "."): value for name, value in config.items()}
        topic = NewTopic(self.name, partitions, 1, config=options)
        self.admin.create_topics([topic])[self.name].result(30)

    def delete(self) -> None:
        """Until nobody is told of it any more."""
        self.admin.delete_topics([self.name])[self.name].result(30)
        deadline = Deadline.after(WITHIN_S)
        while self.name in self.admin.list_topics(timeout=30).topics and not deadline.passed:
            pass

    def extend(self, partitions: int) -> None:
        self.admin.create_partitions([NewPartitions(self.name, partitions)])[self.name].result(30)

    def configure(self, **config: str) -> None:
        alter(self.admin, ConfigResource(ResourceType.TOPIC, self.name), **config)

    def delete_before(self, partition: int, offset: int) -> None:
        where = TopicPartition(self.name, partition, offset)
        self.admin.delete_records([where])[where].result(30)

    def producer(self, **more: object) -> Producer:
        return producer_of(self.bootstrap, **more)

    def send(
        self,
        messages: Sequence[Message],
        key: Callable[[bytes], bytes | None] = lambda _: None,
        time_ms: Callable[[int], int] = lambda _: 0,
    ) -> None:
        producer = self.producer()
        for n, (partition, value) in enumerate(messages):
            producer.produce(
                self.name, value, key=key(value), partition=partition, timestamp=time_ms(n)
            )
            producer.poll(0)
        assert producer.flush(30) == 0
        self.sent += messages

    def left(self, partition: int, start: int = 0) -> list[tuple[int, bytes]]:
        """Offset and value of what is there to be read, as another client reads it."""
        options = {"group.id": "witness", "enable.partition.eof": True}
        consumer = Consumer({**self._quiet, **options, "auto.offset.reset": "earliest"})
        consumer.assign([TopicPartition(self.name, partition, start)])
        found: list[tuple[int, bytes]] = []
        while (message := consumer.poll(10.0)) is not None and message.error() is None:
            found.append((message.offset() or 0, message.value() or b""))
        consumer.close()
        assert message is not None, "no end was reached"
        return found

    # -- the fast path

    @contextmanager
    def ingesting(self) -> Generator[Ingestor]:
        """A fast path from where the state is; it commits in the end, unless it is stopped."""
        with wiring.opened(self.settings, Inputs(), publish=False) as parts:
            versions = Versions(self.settings.models_dir)
            ingestor = Ingestor(parts.pipeline, parts.source, versions, SystemClock(), Stop())
            ingestor.batch, ingestor.snapshot_every_s = MESSAGES_AT_ONCE, WHEN_TOLD_S
            yield ingestor
            ingestor._commit()

    def ingest(self, messages: int) -> Pipeline:
        """So many messages more."""
        with self.ingesting() as ingestor:
            take(ingestor, messages)
            return ingestor.pipeline


def alter(admin: AdminClient, resource: ConfigResource, **config: str) -> None:
    """Set these; of a broker as of a topic."""
    for name, value in config.items():
        entry = ConfigEntry(
            name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET
        )
        resource.add_incremental_config(entry)
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(30)


def take(ingestor: Ingestor, messages: int) -> None:
    """Step until so many more are taken; no more are there to be."""
    goal = ingestor.pipeline.tally.events_in + messages
    step_until(ingestor, lambda: ingestor.pipeline.tally.events_in >= goal)
    assert ingestor.pipeline.tally.events_in == goal


def step_until(ingestor: Ingestor, done: Callable[[], bool]) -> None:
    deadline = Deadline.after(WITHIN_S)
    while not done():
        assert not deadline.passed, ingestor.pipeline.tally
        ingestor.step()


def judge(messages: Sequence[Message], settings: Settings) -> StreamOracle:
    oracle = StreamOracle(wiring.graph_of(settings), wiring.ordering_of(settings))
    for partition, message in messages:
        oracle.feed(partition, message)
    return oracle


def verdict(pipeline: Pipeline, oracle: StreamOracle) -> None:
    """The graph and every count are the oracle's, and every offset is accounted for."""
    tally = pipeline.tally
    said = {name: getattr(tally, name) for name in COUNTS} | tally.kinds | tally.transitions
    wanted = {name: oracle.counts[name] for name in (*said, *Transition)}
    assert Counter(said) == Counter(wanted)
    assert tally.balanced
    assert pipeline.state.graph.edges_by_name() == oracle.edges()


def accounted(pipeline: Pipeline) -> bool:
    """Whether every offset before the positions held a message, or is counted as passed."""
    state, tally = pipeline.state, pipeline.tally
    assert state.positions.keys() == state.begun.keys()
    offsets = sum(at - state.begun[p] for p, at in state.positions.items())
    return offsets == tally.events_in + tally.passed


def by_user(messages: Sequence[bytes], partitions: int) -> list[Message]:
    """As producers do it that key by user, with so many partitions to choose from."""
    return [(_place(message) % partitions, message) for message in messages]


def partition_of(topic: FaultyTopic, number: int) -> Partition:
    return Partition(topic.name, number)


def _place(message: bytes) -> int:
    return zlib.crc32(json.loads(message).get("user_id", "").encode())
