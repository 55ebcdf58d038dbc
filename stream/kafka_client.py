"""What is used of kafka-python, typed: it has no types, and checkers carry those of version 2."""

from abc import ABCMeta
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Protocol, cast

from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.consumer.fetcher import ConsumerRecord as _ConsumerRecord
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.structs import OffsetAndMetadata, TopicPartition

from stream.batch import Partition

RecordHeaders = Sequence[tuple[str, bytes | None]]


class Record(Protocol):
    """A consumed message. A named tuple, so that columns of it can be taken at C speed."""

    def __getitem__(self, index: int, /) -> object: ...


_FIELDS = _ConsumerRecord._fields
offset_of = cast(Callable[[Record], int], itemgetter(_FIELDS.index("offset")))
value_of = cast(Callable[[Record], bytes | None], itemgetter(_FIELDS.index("value")))
headers_of = cast(Callable[[Record], RecordHeaders], itemgetter(_FIELDS.index("headers")))


class Admin(Protocol):
    """The part of ``KafkaAdminClient`` that is used."""

    def list_topics(self) -> list[str]: ...
    def create_topics(
        self, new_topics: Mapping[str, object], *, timeout_ms: int, wait_for_metadata: bool
    ) -> object: ...
    def close(self) -> None: ...


class Consumer(Protocol):
    """The part of ``KafkaConsumer`` that is used. A `Partition` passes for a ``TopicPartition``."""

    def subscribe(self, topics: Sequence[str], *, listener: object) -> None: ...
    def assign(self, partitions: Sequence[Partition]) -> None: ...
    def partitions_for_topic(self, topic: str) -> set[int] | None: ...
    def poll(self, timeout_ms: int, max_records: int) -> Mapping[Partition, list[Record]]: ...
    def assignment(self) -> set[Partition]: ...
    def topics(self) -> set[str]: ...
    def seek(self, partition: Partition, offset: int) -> None: ...
    def seek_to_beginning(self, *partitions: Partition) -> None: ...
    def seek_to_end(self, *partitions: Partition) -> None: ...
    def pause(self, *partitions: Partition) -> None: ...
    def resume(self, *partitions: Partition) -> None: ...
    def position(self, partition: Partition, timeout_ms: int) -> int | None: ...
    def highwater(self, partition: Partition) -> int | None: ...
    def beginning_offsets(
        self, partitions: Sequence[Partition], timeout_ms: int
    ) -> Mapping[Partition, int]: ...
    def end_offsets(
        self, partitions: Sequence[Partition], timeout_ms: int
    ) -> Mapping[Partition, int]: ...
    def commit_async(self, offsets: Mapping[object, object]) -> object: ...
    def close(self, *, autocommit: bool, timeout_ms: int) -> None: ...


class Sent(Protocol):
    """The future of one produced message."""

    @property
    def exception(self) -> Exception | None: ...
    def failed(self) -> bool: ...


class Producer(Protocol):
    """The part of ``KafkaProducer`` that is used."""

    def send(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] | None = None,
        partition: int | None = None,
    ) -> Sent: ...
    def partitions_for(self, topic: str) -> set[int]: ...
    def flush(self, timeout: float) -> None: ...
    def close(self, timeout: float) -> None: ...


new_admin = cast(Callable[..., Admin], KafkaAdminClient)
new_consumer = cast(Callable[..., Consumer], KafkaConsumer)
new_producer = cast(Callable[..., Producer], KafkaProducer)


COOPERATIVE = (CooperativeStickyAssignor,)


def _unheard(_: Sequence[Partition]) -> None:
    return


class AssignmentListener:
    """Tells of partitions that come and go, on the client's own thread.

    Parameters
    ----------
    assigned : callable
        Told of partitions newly held, before they are fetched from. Must be quick, as the others:
        heartbeats wait for it.
    revoked : callable
        Told of partitions that go to another member when it returns.
    lost : callable
        Told of partitions that may be another member's already.
    """

    def __init__(
        self,
        assigned: Callable[[Sequence[Partition]], None],
        revoked: Callable[[Sequence[Partition]], None] = _unheard,
        lost: Callable[[Sequence[Partition]], None] = _unheard,
    ) -> None:
        self._assigned, self._revoked, self._lost = assigned, revoked, lost

    def on_partitions_assigned(self, assigned: Iterable[Partition]) -> None:
        """Called by the client."""
        self._assigned([ours(partition) for partition in assigned])

    def on_partitions_revoked(self, revoked: Iterable[Partition]) -> None:
        """Called by the client."""
        self._revoked([ours(partition) for partition in revoked])

    def on_partitions_lost(self, lost: Iterable[Partition]) -> None:
        """Called by the client."""
        self._lost([ours(partition) for partition in lost])


# The client checks the class; inheriting from an untyped one would make ours untyped too.
cast(ABCMeta, ConsumerRebalanceListener).register(AssignmentListener)


def native(partition: Partition) -> Partition:
    """Return kafka-python's own value for a partition: it checks the class, not the content."""
    return cast(Partition, TopicPartition(partition.topic, partition.number))


def natives(partitions: Iterable[Partition]) -> list[Partition]:
    """Return kafka-python's own values for partitions."""
    return [native(partition) for partition in partitions]


def ours(partition: Partition) -> Partition:
    """Return our value for one of kafka-python's."""
    return Partition(*partition)


def committed(positions: Mapping[Partition, int]) -> Mapping[object, object]:
    """Return positions as the value that a commit takes."""
    return {native(p): OffsetAndMetadata(offset, "", -1) for p, offset in positions.items()}
