"""A quiet topic is no stall; a stalled partition and a broker that is gone are."""

import pytest

from stream.batch import Partition
from stream.clock import ManualClock
from stream.errors import SourceError
from stream.kafka_watch import StallWatch

ONE, TWO = Partition("t", 1), Partition("t", 2)
SECOND = 1_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000 * SECOND)


@pytest.fixture
def watch(clock: ManualClock) -> StallWatch:
    return StallWatch(clock, stall_after_s=60, check_every_s=5)


def test_the_broker_is_asked_about_silent_partitions_only(
    clock: ManualClock, watch: StallWatch
) -> None:
    watch.moved([ONE, TWO])
    clock.advance(5 * SECOND)
    watch.moved([TWO])
    assert watch.silent([ONE, TWO]) == [ONE]


def test_the_broker_is_not_asked_more_often_than_stated(
    clock: ManualClock, watch: StallWatch
) -> None:
    watch.moved([ONE])
    clock.advance(5 * SECOND - 1)
    assert watch.silent([ONE]) == []
    clock.advance(1)
    assert watch.silent([ONE]) == [ONE]
    assert watch.silent([ONE]) == []


def test_a_partition_never_heard_of_begins_to_be_waited_for(
    clock: ManualClock, watch: StallWatch
) -> None:
    clock.advance(5 * SECOND)
    assert watch.silent([ONE]) == []
    clock.advance(5 * SECOND)
    assert watch.silent([ONE]) == [ONE]


def test_a_quiet_topic_is_quiet_for_ever(clock: ManualClock, watch: StallWatch) -> None:
    watch.moved([ONE])
    for _ in range(100):
        clock.advance(10 * SECOND)
        watch.answered({ONE: 0})


def test_more_to_read_and_nothing_read_is_a_stall(clock: ManualClock, watch: StallWatch) -> None:
    watch.moved([ONE, TWO])
    clock.advance(59 * SECOND)
    watch.moved([TWO])
    watch.answered({ONE: 7})
    clock.advance(SECOND)
    with pytest.raises(SourceError, match=r"t\[1\] is stalled: 7 messages to read.* 60 s"):
        watch.answered({TWO: 7, ONE: 7})


def test_a_message_after_a_long_quiet_is_no_stall(clock: ManualClock, watch: StallWatch) -> None:
    watch.moved([ONE])
    clock.advance(1_000 * SECOND)
    watch.answered({ONE: 0})
    clock.advance(5 * SECOND)
    watch.answered({ONE: 1})


def test_a_broker_may_be_gone_for_a_while(clock: ManualClock, watch: StallWatch) -> None:
    clock.advance(59 * SECOND)
    watch.unanswered("h:1", OSError("gone"))
    watch.heard()
    clock.advance(59 * SECOND)
    watch.unanswered("h:1", OSError("gone"))
    watch.answered({})
    clock.advance(60 * SECOND)
    with pytest.raises(SourceError, match="Kafka at h:1 has not answered for 60 s"):
        watch.unanswered("h:1", OSError("gone"))
