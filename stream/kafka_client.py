"""What is used of kafka-python, typed: it has no types, and checkers carry those of version 2."""

from abc import ABCMeta
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Protocol, cast

from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, errors
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
epoch_of = cast(Callable[[Record], int], itemgetter(_FIELDS.index("leader_epoch")))
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


class Cluster(Protocol):
    """The part of ``ClusterMetadata`` that is used: what the client has last heard."""

    def topic_id(self, topic_name: str) -> object: ...
    def partitions_for_topic(self, topic: str) -> set[int] | None: ...
    @property
    def config(self) -> dict[str, object]: ...


class _Position(Protocol):
    """The part of ``OffsetAndMetadata`` that is used."""

    @property
    def offset(self) -> int: ...


class _Place(Protocol):
    """The part of ``TopicPartitionState`` that is used."""

    @property
    def position(self) -> _Position | None: ...
    def seek(self, offset: object) -> None: ...


class _Truncation(Protocol):
    """The part of ``LogTruncationError`` that is used."""

    @property
    def divergent_offsets(self) -> Mapping[Partition, _Position | None]: ...


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


# In version 2, whose types checkers know, there was none.
LogTruncation = cast(type[Exception], attrgetter("LogTruncationError")(errors))

# No public way leads to a topic's id, to a position without asking the broker, to a seek that says
# of which leader epoch it is, nor to a rebalance (a Java client has all four).
cluster_of = cast(Callable[[Consumer], Cluster], attrgetter("_cluster"))
_places = cast(
    Callable[[Consumer], Mapping[Partition, _Place]], attrgetter("_subscription.assignment")
)

_rejoin = cast(Callable[[Consumer], Callable[[], None]], attrgetter("_coordinator.request_rejoin"))

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


def place_of(consumer: Consumer, partition: Partition) -> int | None:
    """Return the next offset that is fetched, as the client has it; None before it is known."""
    place = _places(consumer).get(native(partition))
    position = None if place is None else place.position
    return None if position is None else position.offset


def seek(consumer: Consumer, partition: Partition, offset: int, epoch: int) -> None:
    """Read on at an offset; have the broker say whether its log still has it from that leader.

    Parameters
    ----------
    epoch : int
        Leader epoch of the message before the offset; -1 where it is not known.
    """
    consumer.seek(native(partition), offset)
    if epoch >= 0:
        _places(consumer)[native(partition)].seek(OffsetAndMetadata(offset, "", epoch))


def rejoin(consumer: Consumer) -> None:
    """Have the group's partitions shared out anew, if this member is the one to do it."""
    _rejoin(consumer)()


def parted(lost: Exception) -> dict[Partition, int | None]:
    """Return where logs part from what was read of them, of a ``LogTruncationError``."""
    found = cast(_Truncation, lost).divergent_offsets
    return {partition: None if at is None else at.offset for partition, at in found.items()}


def committed(positions: Mapping[Partition, int]) -> Mapping[object, object]:
    """Return positions as the value that a commit takes."""
    return {native(p): OffsetAndMetadata(offset, "", -1) for p, offset in positions.items()}
