"""Events and dead letters in real topics: whole, in order, with their reasons, none forgotten."""

import hashlib
import itertools
from collections.abc import Callable, Iterator

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError

from stream import kafka_sink
from stream.batch import Partition
from stream.deadline import Deadline
from stream.errors import SinkError
from stream.kafka_sink import KafkaDeadLetters, KafkaSink
from stream.kafka_topics import KafkaCluster, ensure_topic
from stream.sink import DeadLetter

Read = Callable[[str, int], list[object]]

names = map("sink-{}".format, itertools.count())
ORIGIN = Partition("goat.events", 3)


@pytest.fixture
def cluster(kafka: str) -> KafkaCluster:
    return KafkaCluster(kafka)


@pytest.fixture
def topic(cluster: KafkaCluster) -> str:
    name = next(names)
    assert ensure_topic(cluster, name, Deadline.after(30), partitions=3)
    return name


@pytest.fixture
def read(kafka: str) -> Iterator[Read]:
    consumer = KafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest")

    def read_(topic: str, count: int) -> list[object]:
        consumer.assign([TopicPartition(topic, i) for i in range(3)])
        consumer.seek_to_beginning()
        got: list[object] = []
        deadline = Deadline.after(30)
        while len(got) < count and not deadline.passed:
            got += [r for records in consumer.poll(500).values() for r in records]
        return got

    yield read_
    consumer.close()


def letter(value: bytes = b"{", **change: object) -> DeadLetter:
    known = {
        "partition": ORIGIN,
        "offset": 41,
        "value": value,
        "reason": "invalid-json",
        "detail": "got '{', expected an object",
        "headers": (("ce_id", b"7"), ("trace", b"\xff")),
    }
    return DeadLetter(**(known | change))  # type: ignore[arg-type]


class TestEvents:
    def test_a_key_s_messages_keep_their_order(
        self, cluster: KafkaCluster, topic: str, read: Read
    ) -> None:
        sink = KafkaSink(cluster, topic)
        values = [f"{i}".encode() for i in range(3_000)]
        sink.send(values, [f"user-{i % 7}".encode() for i in range(3_000)])
        sink.flush()
        records = read(topic, 3_000)
        assert sorted(int(r.value) for r in records) == list(range(3_000))
        for user in range(7):
            of_user = [r for r in records if r.key == f"user-{user}".encode()]
            assert len({r.partition for r in of_user}) == 1
            assert [int(r.value) for r in of_user] == list(range(user, 3_000, 7))
        sink.close()

    def test_keys_are_optional_and_an_empty_message_is_one(
        self, cluster: KafkaCluster, topic: str, read: Read
    ) -> None:
        sink = KafkaSink(cluster, topic)
        sink.send([b"a", b""])
        sink.close()
        sink.close()
        assert {(r.key, r.value) for r in read(topic, 2)} == {(None, b"a"), (None, b"")}

    def test_one_key_too_few_is_refused(self, cluster: KafkaCluster, topic: str) -> None:
        sink = KafkaSink(cluster, topic)
        with pytest.raises(ValueError, match="shorter"):
            sink.send([b"a", b"b"], [b"k"])
        sink.close()

    def test_memory_is_bounded_by_asking_for_arrival(
        self, cluster: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kafka_sink, "PENDING", 10)
        sink = KafkaSink(cluster, topic)
        sink.send([b"x"] * 25)
        assert len(sink._sender._pending) == 5
        sink.close()

    def test_too_large_for_us_is_said_with_its_size(
        self, cluster: KafkaCluster, topic: str
    ) -> None:
        sink = KafkaSink(cluster, topic, message_bytes=1_000)
        with pytest.raises(SinkError, match=r"a message of 100000 bytes cannot be sent.*TooLarge"):
            sink.send([b"x" * 100_000])
        sink.close()

    def test_too_large_for_the_broker_is_said_at_the_flush(
        self, cluster: KafkaCluster, topic: str
    ) -> None:
        sink = KafkaSink(cluster, topic, message_bytes=3_000_000)
        sink.send([b"small"])
        sink.flush()
        sink.send([b"x" * 2_000_000, b"small"])
        with pytest.raises(SinkError, match=r"[12] of 2 messages did not arrive.*TooLarge"):
            sink.flush()
        sink.close()

    def test_a_topic_that_is_not_there_is_named(self, cluster: KafkaCluster) -> None:
        with pytest.raises(SinkError, match="has no topic nothing-here: create it"):
            KafkaSink(cluster, "nothing-here")

    def test_no_broker_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kafka_sink, "BLOCK_TIMEOUT_S", 0.1)
        with pytest.raises(SinkError, match=r"no Kafka broker answers at 127\.0\.0\.1:1"):
            KafkaSink(KafkaCluster("127.0.0.1:1"), "t")

    def test_what_does_not_arrive_in_time_is_an_error_and_the_connection_goes(
        self, cluster: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sink = KafkaSink(cluster, topic)
        producer = sink._sender._producer

        flush = producer.flush

        def late(timeout: float) -> None:
            monkeypatch.setattr(producer, "flush", flush)
            raise KafkaTimeoutError("late")

        monkeypatch.setattr(producer, "flush", late)
        with pytest.raises(SinkError, match=rf"topic '{topic}' .* messages do not arrive: .*late"):
            sink.close()
        with pytest.raises(SinkError, match="cannot be sent"):
            sink.send([b"x"])


class TestDeadLetters:
    def test_the_original_comes_with_why_and_whence(
        self, cluster: KafkaCluster, topic: str, read: Read
    ) -> None:
        letters = KafkaDeadLetters(cluster, topic)
        letters.put([letter(b"\xff{"), letter(b"", offset=42, reason="empty", headers=())])
        letters.flush()
        first, second = read(topic, 2)
        assert first.value == b"\xff{"
        assert first.headers == [
            ("goat-reason", b"invalid-json"),
            ("goat-detail", b"got '{', expected an object"),
            ("goat-topic", b"goat.events"),
            ("goat-partition", b"3"),
            ("goat-offset", b"41"),
            ("ce_id", b"7"),
            ("trace", b"\xff"),
        ]
        assert second.value == b""
        assert dict(second.headers)["goat-offset"] == b"42"
        assert first.key == second.key == b"goat.events[3]"
        assert letters.counts == {"invalid-json": 1, "empty": 1}
        letters.close()

    def test_a_huge_message_is_cut_and_says_so(
        self, cluster: KafkaCluster, topic: str, read: Read
    ) -> None:
        huge = bytes(range(256)) * 80_000
        letters = KafkaDeadLetters(cluster, topic)
        letters.put([letter(huge)])
        letters.close()
        (record,) = read(topic, 1)
        headers = dict(record.headers)
        assert record.value == huge[: kafka_sink.LETTER_BYTES]
        assert headers["goat-bytes"] == b"20480000"
        assert headers["goat-sha256"] == hashlib.sha256(huge).hexdigest().encode()

    def test_hostile_details_and_headers_still_fit(
        self, cluster: KafkaCluster, topic: str, read: Read
    ) -> None:
        many = tuple((f"h{i}", b"x" * 1_000) for i in range(500))
        letters = KafkaDeadLetters(cluster, topic)
        letters.put([letter(b"y" * 2_000_000, detail="\ud800" * 100_000, headers=many)])
        letters.close()
        (record,) = read(topic, 1)
        headers = dict(record.headers)
        kept = [name for name, _ in record.headers if not name.startswith("goat-")]
        assert kept == [f"h{i}" for i in range(len(kept))]
        assert len(kept) + int(headers["goat-headers-left-out"]) == 500
        assert len(headers["goat-detail"]) == kafka_sink.DETAIL_BYTES
        assert headers["goat-detail"].startswith(b"\\ud800")


def test_a_message_can_be_sent_to_every_partition(
    cluster: KafkaCluster, topic: str, read: Read
) -> None:
    sink = KafkaSink(cluster, topic)
    assert sink.send_to_all(lambda number: f"to {number}".encode(), b"key") == 3
    sink.close()
    got = {(r.partition, r.value, r.key) for r in read(topic, 3)}  # type: ignore[attr-defined]
    assert got == {(n, f"to {n}".encode(), b"key") for n in range(3)}
