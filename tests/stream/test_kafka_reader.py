"""KafkaReader against a real broker: all partitions, our positions, no group."""

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

from stream.batch import Partition
from stream.deadline import Deadline
from stream.errors import RetentionPassed, SourceError
from stream.kafka_reader import KafkaReader, ReaderConfig
from stream.kafka_topics import KafkaCluster, ensure_topic
from tests.producer import producer_of

names = map("reader-{}-{}".format, itertools.repeat(os.getpid()), itertools.count())


@pytest.fixture
def topic(kafka: str) -> str:
    """A topic of two partitions: three messages in the first, one in the second."""
    name = next(names)
    ensure_topic(KafkaCluster(kafka), name, Deadline.after(30), partitions=2)
    producer = producer_of(kafka)
    for partition, value in ((0, b"a"), (0, b"b"), (0, b"c"), (1, b"z")):
        producer.produce(name, value, partition=partition)
    assert producer.flush(30) == 0
    return name


Open = Callable[..., KafkaReader]


@pytest.fixture
def open_(kafka: str, topic: str) -> Iterator[Open]:
    opened: list[KafkaReader] = []

    def make(positions: dict[Partition, int] | None = None, **config: object) -> KafkaReader:
        settings = {"topic": topic} | config
        known = ReaderConfig(KafkaCluster(kafka), **settings)  # type: ignore[arg-type]
        opened.append(KafkaReader(known, positions or {}))
        return opened[-1]

    yield make
    for reader in opened:
        reader.close()


def read(reader: KafkaReader, count: int) -> dict[int, list[bytes]]:
    """Values by partition, until there are so many."""
    found: dict[int, list[bytes]] = {}
    deadline = Deadline.after(30)
    while sum(map(len, found.values())) < count:
        assert not deadline.passed
        for batch in reader.poll(2, 0.5):
            assert len(batch) <= 2
            found.setdefault(batch.partition.number, []).extend(batch.values)
    return found


def test_it_reads_all_partitions_from_our_positions(open_: Open, topic: str) -> None:
    reader = open_({Partition(topic, 0): 1})
    assert read(reader, 3) == {0: [b"b", b"c"], 1: [b"z"]}
    assert reader.lag() == {Partition(topic, 0): 0, Partition(topic, 1): 0}
    assert not reader.exhausted
    reader.seek({Partition(topic, 0): 2})
    assert read(reader, 1) == {0: [b"c"]}
    reader.pause()
    reader.seek({Partition(topic, 0): 0})
    assert list(reader.poll(10, 0.2)) == []
    assert sum(reader.lag().values()) == 3
    reader.resume()
    assert read(reader, 3) == {0: [b"a", b"b", b"c"]}
    reader.advise({Partition(topic, 0): 3})  # nobody is told


def test_two_readers_read_the_same_and_one_may_begin_at_the_end(open_: Open) -> None:
    first, second = open_(), open_()
    assert read(first, 4) == read(second, 4)
    late = open_(start="latest")
    assert not any(map(len, late.poll(10, 0.2))) and sum(late.lag().values()) == 0


def test_what_is_not_there_is_an_error(open_: Open, topic: str) -> None:
    with pytest.raises(SourceError, match="no topic nowhere"):
        open_(topic="nowhere")
    reader = open_({Partition(topic, 0): 99})
    deadline = Deadline.after(30)
    with pytest.raises(RetentionPassed, match="newer snapshot"):
        while not deadline.passed:
            reader.poll(10, 0.5)
