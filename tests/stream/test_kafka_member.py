"""A member that has a name: known again after a crash, and never two at once."""

from collections.abc import Callable, Iterator

import pytest

from stream.batch import Partition
from stream.clock import SystemClock
from stream.deadline import Deadline
from stream.errors import SourceError
from stream.kafka_source import KafkaConfig, KafkaSource
from stream.kafka_topics import KafkaCluster, ensure_topic
from tests.producer import producer_of

TOPIC = "members"

Open = Callable[[str], KafkaSource]


@pytest.fixture
def open_member(kafka: str) -> Iterator[Open]:
    opened: list[KafkaSource] = []

    def open_(member: str) -> KafkaSource:
        config = KafkaConfig(
            KafkaCluster(kafka), (TOPIC,), "members", session_timeout_s=20.0, member=member
        )
        opened.append(KafkaSource(config, {}, SystemClock()))
        return opened[-1]

    yield open_
    for source in opened:
        source.close()


def first(source: KafkaSource, within_s: float) -> bytes | None:
    deadline = Deadline.after(within_s)
    while not deadline.passed:
        for batch in source.poll(10, 0.2):
            return batch.values[0]
    return None


def test_a_member_that_was_killed_reads_on_under_its_name_and_fences_what_is_left_of_it(
    kafka: str, open_member: Open
) -> None:
    ensure_topic(KafkaCluster(kafka), TOPIC, Deadline.after(30))
    producer = producer_of(kafka)
    producer.produce(TOPIC, b"first")
    assert producer.flush(30) == 0
    killed = open_member("one")
    assert first(killed, within_s=30) == b"first"
    # Not closed: to the group it is still there, and would be until its session times out.
    again = open_member("one")
    assert first(again, within_s=10) == b"first"
    killed.advise({Partition(TOPIC, 0): 1})  # as after each snapshot: the broker refuses it
    with pytest.raises(SourceError, match="under our name, one: only one"):
        first(killed, within_s=30)
