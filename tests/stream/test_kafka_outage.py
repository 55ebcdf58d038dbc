"""A broker that freezes or dies under a reader: waited for, then said; nothing is read twice."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumers import local_kafka
from consumers.local_cache import cache_dir
from consumers.local_process import ServerProcess
from stream.clock import SystemClock
from stream.deadline import Deadline
from stream.errors import SourceError
from stream.kafka_source import KafkaConfig, KafkaSource
from stream.kafka_topics import KafkaCluster, ensure_topic, topics
from tests.producer import producer_of

Broker = tuple[ServerProcess, str]

pytestmark = pytest.mark.servers


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    server, bootstrap = local_kafka.start(tmp_path, cache_dir(), Deadline.after(120))
    yield server, bootstrap
    server.stop()


def source(bootstrap: str, group: str, stall_after_s: float) -> KafkaSource:
    config = KafkaConfig(
        KafkaCluster(bootstrap), ("t",), group, stall_after_s=stall_after_s, check_every_s=0.2
    )
    return KafkaSource(config, {}, SystemClock())


def produce(bootstrap: str, *values: bytes) -> None:
    producer = producer_of(bootstrap)
    for value in values:
        producer.produce("t", value)
    assert producer.flush(30) == 0


def read(reader: KafkaSource, count: int) -> list[bytes]:
    got: list[bytes] = []
    deadline = Deadline.after(30)
    while len(got) < count and not deadline.passed:
        got += [value for batch in reader.poll(100, 0.2) for value in batch.values]
    return got


def test_frozen_is_waited_for_and_dead_is_said(broker: Broker) -> None:
    server, bootstrap = broker
    assert ensure_topic(KafkaCluster(bootstrap), "t", Deadline.after(30))
    assert not ensure_topic(KafkaCluster(bootstrap), "t", Deadline.after(30))
    assert "t" in topics(KafkaCluster(bootstrap), Deadline.after(30))
    patient = source(bootstrap, "patient", stall_after_s=60.0)
    produce(bootstrap, b"1", b"2")
    assert read(patient, 2) == [b"1", b"2"]

    os.kill(server.pid, signal.SIGSTOP)
    deadline = Deadline.after(3.0)
    while not deadline.passed:
        assert patient.poll(100, 0.2) == []
    os.kill(server.pid, signal.SIGCONT)
    produce(bootstrap, b"3")
    assert read(patient, 1) == [b"3"]

    hasty = source(bootstrap, "hasty", stall_after_s=1.0)
    assert read(hasty, 3) == [b"1", b"2", b"3"]
    server.stop()
    deadline = Deadline.after(30)
    with pytest.raises(SourceError, match=f"Kafka at {bootstrap} has not answered for"):
        while not deadline.passed:
            hasty.poll(100, 0.2)
    hasty.close()
    patient.close()
