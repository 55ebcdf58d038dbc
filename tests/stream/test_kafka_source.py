"""KafkaSource against a real broker: positions are ours, partitions the group's."""

import itertools
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
from kafka import KafkaAdminClient, TopicPartition

from stream.batch import Partition, RecordBatch
from stream.clock import Clock, ManualClock, SystemClock
from stream.deadline import Deadline
from stream.errors import RetentionPassed, SourceError
from stream.kafka_source import KafkaConfig, KafkaSource
from stream.kafka_topics import KafkaCluster, ensure_topic
from tests.producer import producer_of

names = map("topic-{}".format, itertools.count())

Open = Callable[..., KafkaSource]
MakeTopic = Callable[..., str]


@pytest.fixture
def make_topic(kafka: str) -> MakeTopic:
    def make(partitions: int = 1, **config: str) -> str:
        topic = next(names)
        cluster = KafkaCluster(kafka)
        settings = {name.replace("_", "."): value for name, value in config.items()}
        made = ensure_topic(
            cluster, topic, Deadline.after(30), partitions=partitions, config=settings
        )
        assert made
        return topic

    return make


@pytest.fixture
def open_source(kafka: str) -> Iterator[Open]:
    opened: list[KafkaSource] = []

    def open_(
        topic: str,
        positions: Mapping[Partition, int] | None = None,
        clock: Clock | None = None,
        **config: object,
    ) -> KafkaSource:
        settings = {"group": f"group-{topic}", "session_timeout_s": 15.0} | config
        known = KafkaConfig(KafkaCluster(kafka), (topic,), **settings)  # type: ignore[arg-type]
        opened.append(KafkaSource(known, positions or {}, clock or SystemClock()))
        return opened[-1]

    yield open_
    for source in opened:
        source.close()


def produce(
    bootstrap: str,
    topic: str,
    values: Sequence[bytes | None],
    partition: int = 0,
    headers: list[tuple[str, bytes]] | None = None,
) -> None:
    producer = producer_of(bootstrap, message_max_bytes=30_000_000)
    for value in values:
        producer.produce(topic, value, partition=partition, headers=headers or [])
    assert producer.flush(30) == 0


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [str(i).encode() for i in range(start, start + count)]


def read(source: KafkaSource, count: int, within_s: float = 30.0) -> list[RecordBatch]:
    batches: list[RecordBatch] = []
    deadline = Deadline.after(within_s)
    while sum(map(len, batches)) < count and not deadline.passed:
        batches += source.poll(1_000, 0.2)
    return batches


def values(batches: Sequence[RecordBatch]) -> list[bytes]:
    return [value for batch in batches for value in batch.values]


def drain_nothing(source: KafkaSource, polls: int = 5) -> list[RecordBatch]:
    return [batch for _ in range(polls) for batch in source.poll(1_000, 0.1)]


class TestReading:
    def test_a_batch_is_one_partition_in_ascending_order(
        self, kafka: str, make_topic: MakeTopic, open_source: Open
    ) -> None:
        topic = make_topic(partitions=2)
        produce(kafka, topic, numbered(300), partition=0)
        produce(kafka, topic, numbered(200, 1_000), partition=1)
        batches = read(open_source(topic), 500)
        assert sorted(values(batches), key=int) == numbered(300) + numbered(200, 1_000)
        for batch in batches:
            assert batch.partition.topic == topic
            assert (batch.offsets[1:] > batch.offsets[:-1]).all()
            assert batch.next_offset == batch.offsets[-1] + 1
            assert not batch.history
            first = 0 if batch.partition.number == 0 else 1_000
            assert [int(v) - first for v in batch.values] == batch.offsets.tolist()

    def test_headers_are_kept_and_a_tombstone_is_empty(
        self, kafka: str, make_topic: MakeTopic, open_source: Open
    ) -> None:
        topic = make_topic()
        produce(kafka, topic, [b"plain"])
        produce(kafka, topic, [None], headers=[("ce_id", b"7"), ("ce_id", b"8")])
        batches = read(open_source(topic), 2)
        headers = [h for b in batches for h in (b.headers or [()] * len(b))]
        assert values(batches) == [b"plain", b""]
        assert headers == [(), (("ce_id", b"7"), ("ce_id", b"8"))]

    def test_no_headers_anywhere_is_none(
        self, kafka: str, make_topic: MakeTopic, open_source: Open
    ) -> None:
        topic = make_topic()
        produce(kafka, topic, numbered(10))
        assert {b.headers for b in read(open_source(topic), 10)} == {None}

    def test_never_more_than_asked_for(
        self, kafka: str, make_topic: MakeTopic, open_source: Open
    ) -> None:
        topic = make_topic()
        produce(kafka, topic, numbered(100))
        source = open_source(topic)
        seen: list[bytes] = []
        deadline = Deadline.after(30)
        while len(seen) < 100 and not deadline.passed:
            polled = source.poll(7, 0.2)
            assert sum(map(len, polled)) <= 7
            seen += values(polled)
        assert seen == numbered(100)

    def test_a_message_far_over_the_fetch_size_comes_and_blocks_nothing(
        self, kafka: str, make_topic: MakeTopic, open_source: Open
    ) -> None:
        topic = make_topic(max_message_bytes="20000000")
        huge = b"x" * 15_000_000
        produce(kafka, topic, [b"before", huge, b"after"])
        got = values(read(open_source(topic, fetch_bytes=65_536), 3))
        assert got == [b"before", huge, b"after"]

    def test_a_topic_never_ends(self, make_topic: MakeTopic, open_source: Open) -> None:
        source = open_source(make_topic())
        assert drain_nothing(source) == []
        assert not source.exhausted


class TestPositions:
    def test_reads_on_from_the_state_and_not_from_the_group(
        self, kafka: str, make_topic: MakeTopic, open_source: Open
    ) -> None:
        topic = make_topic()
        where = Partition(topic, 0)
        produce(kafka, topic, numbered(100))
        first = open_source(topic)
        read(first, 100)
        advice = {where: 90, Partition("other", 0): 4}
        assert advised(kafka, first, f"group-{topic}", advice) == {where: 90}
        first.close()
        assert values(read(open_source(topic, {where: 42}), 58)) == numbered(58, 42)

    def test_a_new_state_starts_at_the_earliest_whatever_the_group_has_committed(
        self, kafka: str, make_topic: MakeTopic, open_source: Open
    ) -> None:
        topic = make_topic()
        produce(kafka, topic, numbered(20))
        first = open_source(topic)
        read(first, 20)
        advice = {Partition(topic, 0): 20}
        assert advised(kafka, first, f"group-{topic}", advice) == advice
        first.close()
        assert values(read(open_source(topic), 20)) == numbered(20)

    def test_an_unknown_partition_may_start_at_the_latest(
        self, kafka: str, make_topic: MakeTopic, open_source: Open
    ) -> None:
        topic = make_topic()
        produce(kafka, topic, numbered(20))
        source = open_source(topic, start="latest")
        assert [(b.values, b.next_offset) for b in drain_nothing(source, 20)] == [([], 20)]
        produce(kafka, topic, numbered(5, 20))
        assert values(read(source, 5)) == numbered(5, 20)

    def test_seek_goes_back_and_forth(
        self, kafka: str, make_topic: MakeTopic, open_source: Open
    ) -> None:
        topic = make_topic()
        where = Partition(topic, 0)
        produce(kafka, topic, numbered(50))
        source = open_source(topic)
        read(source, 50)
        source.seek({where: 10})
        assert values(read(source, 40)) == numbered(40, 10)
        source.seek({where: 45})
        assert values(read(source, 5)) == numbered(5, 45)

    def test_a_seek_before_the_assignment_holds(
        self, kafka: str, make_topic: MakeTopic, open_source: Open
    ) -> None:
        topic = make_topic()
        produce(kafka, topic, numbered(50))
        source = open_source(topic)
        source.seek({Partition(topic, 0): 30})
        assert values(read(source, 20)) == numbered(20, 30)

    def test_paused_delivers_nothing_and_resumes_where_it_was(
        self, kafka: str, make_topic: MakeTopic, open_source: Open
    ) -> None:
        topic = make_topic()
        produce(kafka, topic, numbered(50))
        source = open_source(topic)
        source.pause()  # before anything is assigned
        assert drain_nothing(source, polls=20) == []
        source.resume()
        assert values(read(source, 50)) == numbered(50)
        source.pause()
        produce(kafka, topic, numbered(5, 50))
        assert drain_nothing(source) == []
        source.resume()
        assert values(read(source, 5)) == numbered(5, 50)

    def test_lag_counts_what_was_not_read(
        self, kafka: str, make_topic: MakeTopic, open_source: Open
    ) -> None:
        topic = make_topic()
        where = Partition(topic, 0)
        source = open_source(topic)
        assert source.lag() == {}
        produce(kafka, topic, numbered(50))
        deadline = Deadline.after(30)
        while not (polled := source.poll(20, 0.2)) and not deadline.passed:
            pass
        assert source.lag() == {where: 50 - sum(map(len, polled))}
        read(source, 50 - sum(map(len, polled)))
        assert source.lag() == {where: 0}


class TestRetention:
    def test_passed_retention_stops_with_both_numbers(
        self, kafka: str, make_topic: MakeTopic, open_source: Open
    ) -> None:
        topic = make_topic()
        produce(kafka, topic, numbered(100))
        admin = KafkaAdminClient(bootstrap_servers=kafka)
        admin.delete_records({TopicPartition(topic, 0): 60})
        admin.close()
        source = open_source(topic, {Partition(topic, 0): 42})
        with pytest.raises(RetentionPassed, match=r"@42 .* before 60: 18 messages are lost"):
            read(source, 1)

    def test_a_state_ahead_of_the_topic_stops(
        self, kafka: str, make_topic: MakeTopic, open_source: Open
    ) -> None:
        topic = make_topic()
        produce(kafka, topic, numbered(10))
        source = open_source(topic, {Partition(topic, 0): 99})
        with pytest.raises(SourceError, match=r"ahead of the topic.*99, 10") as stopped:
            read(source, 1)
        assert not isinstance(stopped.value, RetentionPassed)


class TestGroup:
    def test_two_members_share_and_the_survivor_takes_over(
        self, kafka: str, make_topic: MakeTopic, open_source: Open
    ) -> None:
        topic = make_topic(partitions=4)
        fill(kafka, topic, 0)
        first = open_source(topic)
        got = values(read(first, 40))
        second = open_source(topic)
        deadline = Deadline.after(40)
        while not deadline.passed:
            polled = [*first.poll(1_000, 0.1), *second.poll(1_000, 0.1)]
            # The second knows nothing of what it takes over, and reads it from the start.
            assert not values(polled) or second.assignment()
            if len(first.assignment()) == len(second.assignment()) == 2:
                break
        assert first.assignment() | second.assignment() == {Partition(topic, i) for i in range(4)}
        assert not first.assignment() & second.assignment()
        second.close()
        fill(kafka, topic, 40)
        got += values(read(first, 40, within_s=60))
        # What came back to the first was read on from where the first had been.
        assert sorted(got, key=int) == numbered(80)


class TestTransactions:
    def test_aborted_and_open_transactions_stay_unseen(
        self, kafka: str, make_topic: MakeTopic, open_source: Open
    ) -> None:
        topic = make_topic()
        for word, commits in (("kept", True), ("aborted", False)):
            producer = producer_of(kafka, transactional_id=f"{topic}-{word}")
            producer.init_transactions(30)
            producer.begin_transaction()
            for value in (word, word):
                producer.produce(topic, value, partition=0)
            producer.flush(30)
            if commits:
                producer.commit_transaction(30)
            else:
                producer.abort_transaction(30)
        produce(kafka, topic, [b"after"])
        source = open_source(topic)
        assert values(read(source, 3)) == [b"kept", b"kept", b"after"]
        assert drain_nothing(source) == []
        assert source.lag() == {Partition(topic, 0): 0}
        dirty = open_source(topic, group="dirty", isolation="read_uncommitted")
        assert len(values(read(dirty, 5))) == 5


class TestSilence:
    def test_a_quiet_topic_is_asked_about_and_goes_on(
        self, kafka: str, make_topic: MakeTopic, open_source: Open
    ) -> None:
        topic = make_topic()
        source = open_source(topic, check_every_s=0.01, stall_after_s=0.05)
        assert drain_nothing(source, polls=20) == []
        produce(kafka, topic, numbered(3))
        assert values(read(source, 3)) == numbered(3)

    def test_a_client_that_stops_returning_records_is_found_out(
        self,
        kafka: str,
        make_topic: MakeTopic,
        open_source: Open,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        topic = make_topic()
        clock = ManualClock(1_700_000_000_000_000)
        source = open_source(topic, clock=clock)
        produce(kafka, topic, numbered(3))
        read(source, 3)
        produce(kafka, topic, numbered(4, 3))
        monkeypatch.setattr(source._consumer, "poll", lambda *_: {})
        clock.advance(59_000_000)
        assert drain_nothing(source) == []
        clock.advance(6_000_000)
        with pytest.raises(SourceError, match=r"\[0\] is stalled: 4 messages to read.* 65 s"):
            source.poll(10, 0.1)


class TestRefusals:
    def test_what_is_no_kafka_is_said(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            address = f"127.0.0.1:{other.getsockname()[1]}"
            config = KafkaConfig(KafkaCluster(address), ("t",), "g", connect_timeout_s=0.5)
            with pytest.raises(SourceError, match="does not answer as Kafka"):
                KafkaSource(config, {}, SystemClock())

    def test_a_missing_topic_is_named(self, open_source: Open) -> None:
        with pytest.raises(SourceError, match="has no topic nothing-here: create it"):
            open_source("nothing-here")

    def test_no_broker_is_said_at_once(self) -> None:
        config = KafkaConfig(KafkaCluster("127.0.0.1:1"), ("t",), "g", connect_timeout_s=0.5)
        with pytest.raises(SourceError, match=r"no Kafka broker answers at 127.0.0.1:1"):
            KafkaSource(config, {}, SystemClock())

    def test_closing_twice_is_once(self, make_topic: MakeTopic, open_source: Open) -> None:
        source = open_source(make_topic())
        source.close()
        source.close()

    def test_reading_after_closing_is_an_error(
        self, make_topic: MakeTopic, open_source: Open
    ) -> None:
        source = open_source(make_topic())
        source.close()
        with pytest.raises(SourceError, match="cannot be read on"):
            source.poll(1, 0.0)


def fill(bootstrap: str, topic: str, start: int) -> None:
    for partition in range(4):
        produce(bootstrap, topic, numbered(10, start + 10 * partition), partition)


def advised(
    bootstrap: str, source: KafkaSource, group: str, advice: Mapping[Partition, int]
) -> dict[Partition, int]:
    """What the group has committed, once advice has arrived: it is sent and not waited for."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    deadline = Deadline.after(30)
    found: dict[Partition, int] = {}
    while not found and not deadline.passed:
        source.advise(advice)
        source.poll(1, 0.1)
        offsets = admin.list_group_offsets({group: None})[group]
        found = {Partition(*p): int(at.offset) for p, at in offsets.items()}
    admin.close()
    return found
