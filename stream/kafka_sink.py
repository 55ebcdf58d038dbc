"""Events to a Kafka topic, and dead letters to another, with why and whence in their headers."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from kafka.errors import KafkaError

from stream.batch import Headers
from stream.deadline import Deadline
from stream.errors import SinkError, SourceError
from stream.kafka_client import Producer, Sent, new_producer
from stream.kafka_topics import KafkaCluster, await_listener, topics
from stream.sink import DeadLetter

BLOCK_TIMEOUT_S: Final = 10.0  # for a place in the send buffer, or a topic's metadata
DELIVERY_TIMEOUT_S: Final = 30.0
PENDING: Final = 20_000  # messages whose arrival is not yet known, before it is asked for
MESSAGE_BYTES: Final = 1_048_576  # what a broker takes by default
LETTER_BYTES: Final = 900_000  # of the original message; the rest of the default is for headers
HEADER_BYTES: Final = 100_000
DETAIL_BYTES: Final = 4_096


class KafkaSink:
    """An `EventSink` into a topic; a key's messages keep their order.

    Parameters
    ----------
    cluster : KafkaCluster
    topic : str
    message_bytes : int
        Largest message that is sent; raise it with the topic's ``max.message.bytes``.
    patience_s : float
        Longest that a message may take to arrive, seconds: `flush` then says that it did not.

    Raises
    ------
    SinkError
        If the cluster does not answer or has no such topic.
    """

    def __init__(
        self,
        cluster: KafkaCluster,
        topic: str,
        *,
        message_bytes: int = MESSAGE_BYTES,
        patience_s: float = DELIVERY_TIMEOUT_S,
    ) -> None:
        self._sender = _Sender(cluster, topic, message_bytes, patience_s)

    def send(self, values: Sequence[bytes], keys: Sequence[bytes | None] | None = None) -> None:
        """Send messages; those without a key spread over the partitions."""
        for value, key in zip(values, keys or [None] * len(values), strict=True):
            self._sender.send(value, key)

    def send_to_all(self, make: Callable[[int], bytes], key: bytes | None = None) -> int:
        """Send a message to each partition; how many those are.

        Parameters
        ----------
        make : callable
            Gives the message for the partition of this number.
        """
        numbers = self._sender.partitions()
        for number in sorted(numbers):
            self._sender.send(make(number), key, partition=number)
        return len(numbers)

    def flush(self) -> None:
        self._sender.flush()

    def close(self) -> None:
        self._sender.close()


class KafkaDeadLetters:
    """A `DeadLetterSink` into a topic.

    The message is the original, its headers follow ours: ``goat-reason``, ``goat-detail``,
    ``goat-topic``, ``goat-partition``, ``goat-offset``. One of more than ``letter_bytes`` is cut,
    and ``goat-bytes`` and ``goat-sha256`` tell the original's size and hash; headers beyond
    `HEADER_BYTES` are left out and counted in ``goat-headers-left-out``. The origin says where
    the whole still lies.

    Parameters
    ----------
    letter_bytes : int
        Most that is kept of a message; a topic takes a little more than this.

    Attributes
    ----------
    counts : reason -> letters put by this run

    Raises
    ------
    SinkError
        If the cluster does not answer or has no such topic.
    """

    def __init__(
        self, cluster: KafkaCluster, topic: str, *, letter_bytes: int = LETTER_BYTES
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._letter_bytes = letter_bytes
        room = HEADER_BYTES + 2 * DETAIL_BYTES
        self._sender = _Sender(cluster, topic, letter_bytes + room)

    def put(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            kept = letter.value[: self._letter_bytes]
            # One partition's letters stay together and in order.
            key = str(letter.partition).encode()
            self._sender.send(kept, key, _headers(letter, len(kept)))
        self.counts.update(letter.reason for letter in letters)

    def flush(self) -> None:
        self._sender.flush()

    def close(self) -> None:
        self._sender.close()


class _Sender:
    """A producer of one topic that forgets no failure."""

    def __init__(
        self,
        cluster: KafkaCluster,
        topic: str,
        message_bytes: int,
        patience_s: float = DELIVERY_TIMEOUT_S,
    ) -> None:
        self._topic = topic
        self._block_s = min(BLOCK_TIMEOUT_S, patience_s)
        self._patience_s = patience_s
        self._where = f"topic {topic!r} at {cluster.bootstrap}"
        self._pending: list[Sent] = []
        self._closed = False
        self._producer = _connect(cluster, topic, message_bytes, patience_s)

    def partitions(self) -> set[int]:
        try:
            return self._producer.partitions_for(self._topic)
        except KafkaError as failed:
            raise SinkError(f"{self._where}: its partitions are not known: {failed!r}") from failed

    def send(
        self,
        value: bytes,
        key: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
    ) -> None:
        try:
            sent = self._producer.send(self._topic, value, key, list(headers), partition)
            self._pending.append(sent)
        except KafkaError as failed:
            raise SinkError(
                f"{self._where}: a message of {len(value)} bytes cannot be sent: {failed!r}"
            ) from failed
        if len(self._pending) >= PENDING:
            self.flush()

    def flush(self) -> None:
        try:
            self._producer.flush(self._patience_s + self._block_s)
        except KafkaError as failed:
            raise SinkError(f"{self._where}: messages do not arrive: {failed!r}") from failed
        failures = [sent.exception for sent in self._pending if sent.failed()]
        sent, self._pending = len(self._pending), []
        if failures:
            raise SinkError(
                f"{self._where}: {len(failures)} of {sent} messages did not arrive, the first "
                f"because of {failures[0]!r}. Is the broker running, are its limits wide enough?"
            )

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self.flush()
        finally:
            self._producer.close(timeout=BLOCK_TIMEOUT_S)


def _connect(cluster: KafkaCluster, topic: str, message_bytes: int, patience_s: float) -> Producer:
    deadline = Deadline.after(BLOCK_TIMEOUT_S)
    try:
        await_listener(cluster, deadline)
        if topic not in topics(cluster, deadline):
            raise SinkError(
                f"Kafka at {cluster.bootstrap} has no topic {topic}: create it, correct the name, "
                "or let this user see it"
            )
        return new_producer(
            **cluster.options(),
            client_id="goat",
            allow_auto_create_topics=False,
            linger_ms=5,
            batch_size=262_144,
            max_request_size=message_bytes + 65_536,
            max_block_ms=int(min(BLOCK_TIMEOUT_S, patience_s) * 1_000),
            request_timeout_ms=int(patience_s * 1_000 / 3),
            delivery_timeout_ms=int(patience_s * 1_000),
            metrics_enabled=False,
        )
    except (SourceError, KafkaError) as failed:
        raise SinkError(f"topic {topic!r} cannot be written: {failed}") from failed


def _headers(letter: DeadLetter, kept: int) -> Headers:
    detail = letter.detail.encode(errors="backslashreplace")[:DETAIL_BYTES]
    ours = [
        ("goat-reason", letter.reason.encode()),
        ("goat-detail", detail),
        ("goat-topic", letter.partition.topic.encode(errors="backslashreplace")),
        ("goat-partition", str(letter.partition.number).encode()),
        ("goat-offset", str(letter.offset).encode()),
    ]
    if kept < len(letter.value):
        digest = hashlib.sha256(letter.value).hexdigest().encode()
        ours += [("goat-bytes", str(len(letter.value)).encode()), ("goat-sha256", digest)]
    theirs = _fitting(letter.headers)
    if left_out := len(letter.headers) - len(theirs):
        ours.append(("goat-headers-left-out", str(left_out).encode()))
    return (*ours, *theirs)


def _fitting(headers: Headers) -> Headers:
    """Return the headers up to the one with which there would be too much of them."""
    room = HEADER_BYTES
    for index, (name, value) in enumerate(headers):
        room -= len(name.encode()) + len(value) + 16
        if room < 0:
            return headers[:index]
    return headers
