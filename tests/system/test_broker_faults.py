"""What a broker does to a topic, on purpose or not: the state is what the oracle says, or it stops.

The broker here is everybody's, and stays up; see `test_broker_crashes.py` for one that does not.
"""

import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka.admin import ConfigResource, ResourceType

from consumers.errors import ServerUnavailable
from stream.clock import SystemClock
from stream.deadline import Deadline
from stream.errors import RetentionPassed, SourceError, TopicReplaced
from stream.simulator import Simulator, SimulatorConfig
from stream.snapshot import SnapshotStore
from tests.faults.topic import disturbed
from tests.system.faulty_topic import (
    WITHIN_S,
    FaultyTopic,
    Message,
    accounted,
    alter,
    by_user,
    impatient,
    judge,
    partition_of,
    step_until,
    take,
    verdict,
)

names = map("faulty-{}-{}".format, itertools.repeat(os.getpid()), itertools.count())
MESSAGES = 900
PARTITIONS = 3


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch, stall_after_s=20.0)


@pytest.fixture
def topic(kafka: str, tmp_path: Path) -> Iterator[FaultyTopic]:
    yield FaultyTopic(kafka, next(names), tmp_path / "state")


def messages(seed: int) -> list[Message]:
    """A disturbed stream, its partitions taking turns."""
    parts = [[(n, m) for m in part] for n, part in enumerate(disturbed(seed, MESSAGES))]
    turns = itertools.zip_longest(*parts)
    return [one for turn in turns for one in turn if one is not None]


def test_what_compaction_leaves_is_read_and_what_it_took_is_counted(topic: FaultyTopic) -> None:
    """Read before, a message has had its effect; not read before, it is a gap and nothing else."""
    for number in topic.admin.list_topics(timeout=30).brokers:
        broker = ConfigResource(ResourceType.BROKER, str(number))
        alter(topic.admin, broker, log_cleaner_backoff_ms="100")
    topic.make(
        PARTITIONS, cleanup_policy="compact", segment_ms="100", min_cleanable_dirty_ratio="0.001"
    )
    stream, spare = messages(1), b'{"type":"click","broken":2}'
    rng = np.random.default_rng(1)
    keys = {value: b"%d" % rng.integers(40) for value in (*(v for _, v in stream), spare)}
    third = len(stream) // 3
    topic.send(stream[:third], keys.__getitem__)
    topic.ingest(third)
    topic.send(stream[third:], keys.__getitem__)
    deadline = Deadline.after(WITHIN_S)
    while True:  # a segment is closed by the next message, and cleaned some time later
        assert not deadline.passed
        topic.send([(n, spare) for n in range(PARTITIONS)], keys.__getitem__)
        if all(len(topic.left(n)) < len(stream) // 9 for n in range(PARTITIONS)):
            break
    topic.configure(cleanup_policy="delete", segment_ms="604800000")
    read = list(stream[:third])
    store = SnapshotStore(topic.settings.graph_dir, SystemClock())
    saved = store.newest()
    assert saved is not None
    for n in range(PARTITIONS):
        begin = saved.positions[partition_of(topic, n)]
        read += [(n, value) for _, value in topic.left(n, begin)]
    pipeline = topic.ingest(len(read) - third)
    assert pipeline.tally.passed > 100
    assert accounted(pipeline)
    assert len(read) + pipeline.tally.passed == len(topic.sent)
    verdict(pipeline, judge(read, topic.settings))


@pytest.mark.parametrize("running", [True, False])
def test_a_partition_that_is_added_is_read_from_its_beginning(
    topic: FaultyTopic, running: bool
) -> None:
    """Also by a state that began at the end, and users who move with their key stay themselves."""
    config = SimulatorConfig(MESSAGES, users=60, items=50, new_items=0.0, removed_items=0.0)
    said = list(Simulator(config, np.random.default_rng(3)))
    old, new = by_user(said[:600], 2), by_user(said[600:], 3)
    topic.make(2)
    topic.start_at = "latest"
    topic.send([(0, b"of before"), (0, b"the state began")])  # and the other partition is empty
    with topic.ingesting() as ingestor:
        state = ingestor.pipeline.state
        step_until(ingestor, lambda: len(state.positions) == 2)
        if not running:
            ingestor._commit()
        if running:
            topic.send(old)
            take(ingestor, len(old))
            topic.extend(3)
            topic.send(new)
            take(ingestor, len(new))
        pipeline = ingestor.pipeline
    if not running:
        # Not even the partition that has never had a message is begun at its end again.
        topic.send(old)
        topic.ingest(len(old))
        topic.extend(3)
        topic.send(new)
        pipeline = topic.ingest(len(new))
    assert len(moved(old, new)) > 10
    assert len(pipeline.state.positions) == 3
    assert pipeline.state.begun[partition_of(topic, 2)] == 0
    assert accounted(pipeline)
    # One plain graph for all: joins and repetitions do not mind where an event is.
    verdict(pipeline, judge([(0, m) for _, m in (*old, *new)], topic.settings))


def moved(old: list[Message], new: list[Message]) -> set[str]:
    """Users with events in two partitions."""

    def seen(part: list[Message]) -> set[tuple[int, str]]:
        return {(n, json.loads(m)["user_id"]) for n, m in part if b"user_id" in m}

    before = {user: n for n, user in seen(old)}
    return {user for n, user in seen(new) if before.get(user, n) != n}


def recreate(topic: FaultyTopic, stream: list[Message]) -> None:
    topic.delete()
    topic.make(PARTITIONS)
    topic.send(stream)


def saved(topic: FaultyTopic) -> Any:
    state = SnapshotStore(topic.settings.graph_dir, SystemClock()).load()
    assert state is not None
    return state


@pytest.mark.parametrize("extra", [0, 50])
def test_a_topic_made_anew_while_it_is_down_is_not_taken_for_the_same(
    topic: FaultyTopic, extra: int
) -> None:
    stream = messages(4)
    topic.make(PARTITIONS)
    topic.send(stream)
    topic.ingest(len(stream))
    before = saved(topic)
    recreate(topic, [*stream, *messages(5)[:extra]])
    own = before.topics[topic.name].id
    with pytest.raises(ServerUnavailable, match=f"made anew: its id is .*has read {own}.*ends at"):
        topic.ingest(1)
    after = saved(topic)
    assert after.saved_as == before.saved_as
    assert after.graph.edges_by_name() == judge(stream, topic.settings).edges()


def test_a_topic_made_anew_while_it_runs_stops_it(topic: FaultyTopic) -> None:
    stream = messages(6)
    topic.make(PARTITIONS)
    topic.send(stream)
    with (
        pytest.raises(TopicReplaced, match="made anew: its id is"),
        topic.ingesting() as ingestor,
    ):
        take(ingestor, len(stream))
        ingestor._commit()
        recreate(topic, [*stream, *messages(7)])
        step_until(ingestor, lambda: False)
    assert saved(topic).graph.edges_by_name() == judge(stream, topic.settings).edges()


def test_a_topic_that_is_gone_stops_it(topic: FaultyTopic) -> None:
    stream = messages(8)
    topic.make(PARTITIONS)
    topic.send(stream)
    with (
        pytest.raises(SourceError, match=f"topic {topic.name} has been gone for 2[0-9] s"),
        topic.ingesting() as ingestor,
    ):
        take(ingestor, len(stream))
        ingestor._commit()
        topic.delete()
        step_until(ingestor, lambda: False)
    assert saved(topic).graph.edges_by_name() == judge(stream, topic.settings).edges()


def test_producers_out_of_order_are_judged_by_event_time_alone(topic: FaultyTopic) -> None:
    """Event times far apart side by side, and Kafka's own timestamps going back and forth."""
    rng = np.random.default_rng(9)
    stream = messages(9)
    stream = [stream[i] for i in rng.permutation(len(stream))]
    topic.make(PARTITIONS, retention_ms="-1")
    for part in np.array_split(np.arange(len(stream)), 5):
        times = 1_700_000_000_000 + rng.integers(-(10**9), 10**9, len(part))
        topic.send([stream[i] for i in part.tolist()], time_ms=times.tolist().__getitem__)
        topic.ingest(len(part))
    with topic.ingesting() as ingestor:
        pipeline = ingestor.pipeline
    oracle = judge(stream, topic.settings)
    assert min(oracle.counts["late"], oracle.counts["applied"]) > 100
    assert accounted(pipeline) and pipeline.tally.passed == 0
    verdict(pipeline, oracle)


def test_transactions_count_when_they_are_committed(topic: FaultyTopic) -> None:
    """One aborted, one left open that holds up what comes after it, and none of it missed."""
    stream = messages(10)
    topic.make(PARTITIONS)
    cut = len(stream) // 2
    kept, open_ = stream[:cut], stream[cut : cut + 60]
    after = [(0, m) for n, m in stream[cut + 60 :] if n == 0]

    def transaction(name: str, part: list[Message], end: Callable[[Any], None]) -> None:
        producer = topic.producer(transactional_id=f"{topic.name}-{name}")
        producer.init_transactions(30)
        producer.begin_transaction()
        for n, value in part:
            producer.produce(topic.name, value, partition=n)
        assert producer.flush(30) == 0
        end(producer)

    left_open: list[Any] = []
    transaction("kept", kept, lambda p: p.commit_transaction(30))
    transaction("aborted", messages(11)[:200], lambda p: p.abort_transaction(30))
    transaction("open", open_, left_open.append)
    topic.send(after)
    with topic.ingesting() as ingestor:
        take(ingestor, len(kept))
        for _ in range(10):
            ingestor.step()
        assert ingestor.pipeline.tally.events_in == len(kept)
        left_open[0].commit_transaction(30)
        take(ingestor, len(open_) + len(after))
        # The marks of the commit come after everything else where nothing was sent since.
        step_until(ingestor, lambda: not any(ingestor.source.lag().values()))
        step_until(ingestor, lambda: accounted(ingestor.pipeline))
    pipeline = ingestor.pipeline
    assert pipeline.tally.passed == 200 + 3 * PARTITIONS
    verdict(pipeline, judge([*kept, *open_, *after], topic.settings))


def test_what_was_aborted_may_be_deleted(topic: FaultyTopic) -> None:
    """Nothing was read there, and nothing is missed: retention has not passed the state."""
    stream = [(0, m) for n, m in messages(12) if n == 0]
    topic.make(1)
    topic.send(stream[:50])
    producer = topic.producer(transactional_id=topic.name)
    producer.init_transactions(30)
    producer.begin_transaction()
    for _, value in stream[50:]:
        producer.produce(topic.name, value, partition=0)
    assert producer.flush(30) == 0
    producer.abort_transaction(30)
    with topic.ingesting() as ingestor:
        take(ingestor, 50)
        end = len(stream) + 1
        step_until(ingestor, lambda: list(ingestor.pipeline.state.positions.values()) == [end])
    topic.delete_before(0, end)
    topic.send(stream[50:])
    pipeline = topic.ingest(len(stream) - 50)
    verdict(pipeline, judge(stream, topic.settings))
    topic.delete_before(0, end + len(stream) - 50)
    topic.send(stream[:1])
    topic.delete_before(0, end + len(stream) - 49)
    with pytest.raises(RetentionPassed, match="1 messages are lost"):
        topic.ingest(1)
